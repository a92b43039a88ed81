#include "core/config.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/file.h"
#include "core/text.h"

namespace xlstm {

namespace {

// An alias may stand within its own anchor, and a few of them make a small file endless.
constexpr int kDeepest = 16;
constexpr std::size_t kMostKeys = 10'000;

// A node without a value stands nowhere: its key does.
void flatten(const YAML::Node& node, const std::string& prefix, const std::string& name, ConfigTree& tree, int depth,
             int key_line) {
  const std::string where = fmt::format("{}:{}", name, (node.IsNull() ? key_line : node.Mark().line) + 1);
  if (depth > kDeepest || tree.values.size() + tree.sections.size() > kMostKeys)
    throw user_error("{}: sections within sections without end (a YAML alias of itself?); write the keys out", where);
  if (node.IsMap()) {
    if (!prefix.empty()) tree.sections.emplace(prefix, where);
    for (const auto& child : node) {
      const std::string key = (prefix.empty() ? "" : prefix + ".") + child.first.Scalar();
      if (tree.values.contains(key) || tree.sections.contains(key))
        throw user_error("{}:{}: key '{}' appears twice", name, child.first.Mark().line + 1, key);
      flatten(child.second, key, name, tree, depth + 1, child.first.Mark().line);
    }
  } else if (node.IsSequence() && !prefix.empty()) {
    tree.sections.emplace(prefix, where);
    tree.lists.insert(prefix);
    for (std::size_t i = 0; i < node.size(); ++i)
      flatten(node[i], fmt::format("{}.{}", prefix, i), name, tree, depth + 1, node.Mark().line);
  } else if (node.IsScalar()) {
    tree.values[prefix] = {node.Scalar(), where};
  } else if (node.IsNull()) {
    if (!prefix.empty()) tree.sections.emplace(prefix, where);
  } else {
    throw user_error("{}: '{}' is a list; a single value or a section is expected", where, prefix);
  }
}

template <class T>
bool parse_number(const std::string& text, T& out) {
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, out);
  return error == std::errc() && stopped == end;
}

UserError wrong_type(const ConfigTree::Value& v, const std::string& key, const char* expected) {
  return user_error("{}: '{}' is '{}'; {} is expected", v.where, key, v.text, expected);
}

}  // namespace

ConfigTree ConfigTree::from_text(const std::string& text, const std::string& name) {
  ConfigTree tree;
  if (const std::size_t zero = text.find('\0'); zero != std::string::npos)
    throw user_error("{}: byte {}: not text; a config is YAML in UTF-8", name, zero);
  if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff"))
    throw user_error("{}: UTF-16, or no text; a config is YAML in UTF-8", name);
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.size() > 1)
      throw user_error("{}:{}: a second YAML document begins after '---'; a config is one, so join them", name,
                       std::max(documents[1].Mark().line, 0) + 1);
    const YAML::Node root = documents.empty() ? YAML::Node() : documents[0];
    if (!root.IsMap() && !root.IsNull())
      throw user_error("{}: expected 'section: …' lines, found a single value", name);
    flatten(root, "", name, tree, /*depth=*/0, /*key_line=*/0);
  } catch (const YAML::Exception& e) {
    throw user_error("{}:{}: not valid YAML: {}", name, e.mark.line + 1, e.msg);
  }
  return tree;
}

ConfigTree ConfigTree::from_file(const std::string& path) {
  return path == "-" ? from_text(read_standard_input(), "stdin") : from_text(read_file(path), path);
}

std::string ConfigTree::where_set(const std::string& key) const {
  if (const auto value = values.find(key); value != values.end()) return value->second.where;
  const auto section = sections.find(key);
  return section == sections.end() ? "" : section->second;
}

void ConfigTree::overlay(const ConfigTree& other) {
  for (const std::string& list : other.lists) {  // as a whole: a shorter one leaves nothing of the longer one
    const auto of_list = [&](const auto& entry) { return entry.first.starts_with(list + "."); };
    std::erase_if(values, of_list);
    std::erase_if(sections, of_list);
  }
  for (const auto& [key, value] : other.values) values[key] = value;
  for (const auto& [key, where] : other.sections) sections.emplace(key, where);
  lists.insert(other.lists.begin(), other.lists.end());
}

void ConfigTree::set(const std::string& assignment) {
  const std::size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0)
    throw user_error("--set {}: expected key=value, for example --set optimizer.lr=1e-3", assignment);
  values[assignment.substr(0, equals)] = {assignment.substr(equals + 1), "--set " + assignment};
}

namespace config_detail {

void parse(const ConfigTree::Value& v, const std::string& key, i64& field) {
  if (!parse_number(v.text, field)) throw wrong_type(v, key, "a whole number");
}

void parse(const ConfigTree::Value& v, const std::string& key, double& field) {
  if (!parse_number(v.text, field) || !std::isfinite(field)) throw wrong_type(v, key, "a number");
}

void parse(const ConfigTree::Value& v, const std::string& key, bool& field) {
  if (v.text != "true" && v.text != "false") throw wrong_type(v, key, "true or false");
  field = v.text == "true";
}

void parse(const ConfigTree::Value& v, const std::string&, std::string& field) { field = v.text; }

void parse(const ConfigTree::Value& v, const std::string& key, Range& field) {
  const std::size_t dots = v.text.find("..");
  const std::string from = v.text.substr(0, dots), to = dots == std::string::npos ? from : v.text.substr(dots + 2);
  if (!parse_number(from, field.from) || !parse_number(to, field.to) || !std::isfinite(field.from) ||
      !std::isfinite(field.to))
    throw wrong_type(v, key, "a number or from..to");
}

void refuse_value(const ConfigTree::Value& v, const std::string& key, const char* expected) {
  throw wrong_type(v, key, expected);
}

void refuse_empty_list(const std::string& key, const std::string& where) {
  throw user_error("{}: '{}' is an empty list; write its entries, or leave the line out", where, key);
}

void refuse_enum(const ConfigTree::Value& v, const std::string& key, const std::vector<std::string>& names) {
  std::string all;
  for (const std::string& name : names) all += (all.empty() ? "" : " | ") + name;
  throw user_error("{}: '{}' is '{}'; expected {}{}", v.where, key, v.text, all, did_you_mean(v.text, names));
}

void refuse_key(const std::string& key, const std::string& where, const std::vector<std::string>& known) {
  const auto name_of = [](const std::string& path) { return path.substr(path.rfind('.') + 1); };
  // A key of (almost) this name in another section, if there is one: model.num_heads is model.mixer.num_heads.
  std::vector<std::string> same_name;
  for (const std::string& k : known)
    if (edit_distance(name_of(k), name_of(key)) <= 1) same_name.push_back(k);
  std::sort(same_name.begin(), same_name.end(),
            [&](const std::string& a, const std::string& b) { return edit_distance(a, key) < edit_distance(b, key); });
  throw user_error("{}: unknown key '{}'{}", where, key,
                   same_name.empty() ? did_you_mean(key, known) : fmt::format("; did you mean '{}'?", same_name[0]));
}

std::string text_of(i64 v) { return fmt::format("{}", v); }
std::string text_of(double v) { return fmt::format("{}", v); }
std::string text_of(bool v) { return v ? "true" : "false"; }
std::string text_of(const std::string& v) {
  std::string out = "\"";
  for (const char c : v) {
    if (const auto byte = static_cast<unsigned char>(c); byte < 0x20) {
      out += fmt::format("\\x{:02x}", byte);
      continue;
    }
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}
std::string text_of(const Range& v) {
  return v.from == v.to ? text_of(v.from) : text_of(v.from) + ".." + text_of(v.to);
}

}  // namespace config_detail

void ReadFields::refuse_unknown() const {
  const auto is_known = [&](const std::string& key) {
    return std::find(known_.begin(), known_.end(), key) != known_.end();
  };
  const auto has_children = [&](const std::string& key) {
    for (const std::string& k : known_)
      if (k.starts_with(key + ".")) return true;
    return false;
  };
  for (const auto& [key, where] : tree_.sections) {
    if (!is_known(key)) config_detail::refuse_key(key, where, known_);
    const auto is_of_list = [element = key + ".0"](const std::string& k) { return k == element; };
    if (tree_.lists.contains(key) && std::none_of(known_.begin(), known_.end(), is_of_list))
      throw user_error("{}: '{}' is a list; a single value or a section is expected", where, key);
    if (has_children(key)) continue;
    const auto child = tree_.values.lower_bound(key + ".");
    const bool has_keys = child != tree_.values.end() && child->first.starts_with(key + ".");
    throw has_keys ? user_error("{}: '{}' is a single value, not a section", where, key)
                   : user_error("{}: '{}' has no value; write one, or leave the line out", where, key);
  }
  for (const auto& [key, value] : tree_.values) {
    if (!is_known(key)) config_detail::refuse_key(key, value.where, known_);
    if (has_children(key)) throw user_error("{}: '{}' is a section; set one of its keys", value.where, key);
  }
}

}  // namespace xlstm
