#pragma once
// JSON as the rest of the program uses it: keys keep the order in which they were written.
#include <nlohmann/json.hpp>

#include "core/file.h"

namespace xlstm {

using Json = nlohmann::ordered_json;

Json read_json(const fs::path& path);  // UserError with the path and the byte offset

// On one line, or indented. Paths and prompts may hold bytes that are not UTF-8: U+FFFD stands for them.
std::string to_text(const Json& json, int indent = -1);

// An object as indented text with a checksum over itself, and back: without the checksum, or null when the text is not
// exactly what was sealed.
std::string sealed(Json object);
Json unsealed(const std::string& text);

// The field of an object, or a UserError that names file and key.
template <class T>
T json_field(const Json& object, const char* key, const fs::path& path) {
  try {
    return object.at(key).get<T>();
  } catch (const nlohmann::json::exception&) {
    throw user_error("{}: field '{}' is {}; the file is damaged or not ours", path.string(), key,
                     object.is_object() && object.contains(key) ? "of the wrong type" : "missing");
  }
}

}  // namespace xlstm
