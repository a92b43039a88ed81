#include "core/json.h"

#include "core/hash.h"

namespace xlstm {

Json read_json(const fs::path& path) {
  const std::string text = read_file(path);
  try {
    return Json::parse(text);
  } catch (const nlohmann::json::parse_error& e) {
    throw user_error("{}: not valid JSON at byte {}; the file is damaged or not ours", path.string(), e.byte);
  } catch (const nlohmann::json::exception&) {
    throw user_error("{}: holds a number beyond any type; the file is damaged or not ours", path.string());
  }
}

std::string to_text(const Json& json, int indent) {
  return json.dump(indent, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

std::string sealed(Json object) {
  const std::string text = to_text(object);
  object["checksum"] = xxh3_hex(text.data(), text.size());
  return to_text(object, 1) + "\n";
}

Json unsealed(const std::string& text) {
  Json object = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return nullptr;
  object.erase("checksum");
  return sealed(object) == text ? object : Json(nullptr);
}

}  // namespace xlstm
