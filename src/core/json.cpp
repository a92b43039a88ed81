#include "core/json.h"

namespace xlstm {

Json read_json(const fs::path& path) {
  const std::string text = read_file(path);
  try {
    return Json::parse(text);
  } catch (const nlohmann::json::parse_error& e) {
    throw user_error("{}: not valid JSON at byte {}; the file is damaged or not ours", path.string(), e.byte);
  }
}

}  // namespace xlstm
