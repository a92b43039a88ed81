#pragma once
// A config is a plain struct plus one function, visit(v, config), that names its fields. Reading YAML (refusing unknown
// keys with line number and the nearest known key), writing the resolved config and `--set a.b=c` all go through it.
//
//   struct MixerConfig { i64 num_heads = 4; InputGate input_gate = InputGate::exp; };
//   void visit(auto& v, MixerConfig& c) { v("num_heads", c.num_heads); v("input_gate", c.input_gate); }
//   constexpr auto names_of(InputGate) { return std::array{"exp", "sigmoid"}; }      // enums, in order of value
#include <array>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace xlstm {

// Scalars of a YAML document by dotted path, with where each stands.
struct ConfigTree {
  struct Value {
    std::string text;
    std::string where;  // "quickstart.yaml:12" or "--set"
  };
  std::map<std::string, Value> values;          // "model.mixer.num_heads" -> "4"
  std::map<std::string, std::string> sections;  // "model.mixer" -> where: a section may be empty
  std::set<std::string> lists;                  // of the sections, those whose keys are 0, 1, ...

  static ConfigTree from_file(const std::string& path);  // "-": stdin
  static ConfigTree from_text(const std::string& text, const std::string& name);
  std::string where_set(const std::string& key) const;  // "" when it is not
  void overlay(const ConfigTree& other);                // what stands there overrides what stands here
  void set(const std::string& assignment);  // "key=value"; the key must exist in the struct that is read later
};

// Two numbers in one field: "3..6", or one number for both.
struct Range {
  double from = 0, to = 0;
};

namespace config_detail {
void parse(const ConfigTree::Value& v, const std::string& key, i64& field);
void parse(const ConfigTree::Value& v, const std::string& key, double& field);
void parse(const ConfigTree::Value& v, const std::string& key, bool& field);
void parse(const ConfigTree::Value& v, const std::string& key, std::string& field);
void parse(const ConfigTree::Value& v, const std::string& key, Range& field);
[[noreturn]] void refuse_enum(const ConfigTree::Value& v, const std::string& key,
                              const std::vector<std::string>& names);
[[noreturn]] void refuse_value(const ConfigTree::Value& v, const std::string& key, const char* expected);
[[noreturn]] void refuse_empty_list(const std::string& key, const std::string& where);
[[noreturn]] void refuse_key(const std::string& key, const std::string& where, const std::vector<std::string>& known);
std::string text_of(i64 v);
std::string text_of(double v);
std::string text_of(bool v);
std::string text_of(const std::string& v);
std::string text_of(const Range& v);
}  // namespace config_detail

// Keys that the user names, and lists: std::map<std::string, T> and std::vector<T> of what a single key can hold; a
// list may be one of sections, too.
template <class T>
concept NamedValues = requires {
  typename T::mapped_type;
};
template <class T>
concept ValueList = requires(T t) {
  t.emplace_back();
};

template <class T>
concept NamedEnum = std::is_enum_v<T> && requires(T t) {
  names_of(t).size();
};

class ReadFields {
 public:
  explicit ReadFields(const ConfigTree& tree) : tree_(tree) {}

  template <class T>
  void operator()(const std::string& name, T& field) {
    const std::string key = prefix_ + name;
    known_.push_back(key);
    if constexpr (requires { visit(*this, field); }) {
      const std::string outer = std::exchange(prefix_, key + ".");
      visit(*this, field);
      prefix_ = outer;
    } else if constexpr (NamedValues<T> || ValueList<T>) {
      read_many(key, field);
    } else if (const auto it = tree_.values.find(key); it != tree_.values.end()) {
      if constexpr (NamedEnum<T>) {
        const auto names = names_of(T{});
        for (std::size_t i = 0; i < names.size(); ++i)
          if (it->second.text == names[i]) {
            field = static_cast<T>(i);
            return;
          }
        config_detail::refuse_enum(it->second, key, {names.begin(), names.end()});
      } else {
        config_detail::parse(it->second, key, field);
      }
    }
  }

  void refuse_unknown() const;

 private:
  template <class T>
  void read_many(const std::string& key, T& field) {
    if (const auto it = tree_.values.find(key); it != tree_.values.end())
      config_detail::refuse_value(it->second, key, NamedValues<T> ? "a section of names" : "a list");
    if constexpr (NamedValues<T>) {
      for (const auto& [path, value] : tree_.values)
        if (path.starts_with(key + ".")) {
          known_.push_back(path);
          config_detail::parse(value, path, field[path.substr(key.size() + 1)]);
        }
    } else if constexpr (requires { visit(*this, *field.data()); }) {
      read_sections(key, field);
    } else {
      known_.push_back(key + ".0");  // an empty list is one
      for (std::size_t i = 0;; ++i) {
        const auto it = tree_.values.find(key + "." + std::to_string(i));
        if (it == tree_.values.end()) return;
        known_.push_back(it->first);
        field.emplace_back();
        config_detail::parse(it->second, it->first, field.back());
      }
    }
  }

  // A list of sections has at least one.
  template <class T>
  void read_sections(const std::string& key, T& field) {
    const auto is_there = [&](const std::string& element) {
      const auto it = tree_.values.lower_bound(element + ".");
      return tree_.sections.contains(element) || tree_.values.contains(element) ||
             (it != tree_.values.end() && it->first.starts_with(element + "."));
    };
    for (std::string element = key + ".0"; is_there(element); element = key + "." + std::to_string(field.size())) {
      if (const auto it = tree_.values.find(element); it != tree_.values.end())
        config_detail::refuse_value(it->second, element, "a section of keys");
      field.emplace_back();
      known_.push_back(element);
      const std::string outer = std::exchange(prefix_, element + ".");
      visit(*this, field.back());
      prefix_ = outer;
    }
    known_.push_back(key + ".0");
    const auto inside = tree_.values.lower_bound(key + ".");
    const bool empty = inside == tree_.values.end() || !inside->first.starts_with(key + ".");
    if (const auto it = tree_.sections.find(key); field.empty() && empty && it != tree_.sections.end())
      config_detail::refuse_empty_list(key, it->second);
  }

  const ConfigTree& tree_;
  std::vector<std::string> known_;
  std::string prefix_;
};

// Writes a struct back as YAML: complete, in the order of visit().
class WriteFields {
 public:
  template <class T>
  void operator()(const std::string& name, T& field) {
    if constexpr (requires { visit(*this, field); }) {
      yaml += indent_ + name + ":\n";
      const std::string outer = std::exchange(indent_, indent_ + "  ");
      visit(*this, field);
      indent_ = outer;
    } else if constexpr (NamedValues<T>) {
      if (!field.empty()) yaml += indent_ + name + ":\n";
      for (const auto& [key, value] : field) yaml += indent_ + "  " + key + ": " + config_detail::text_of(value) + "\n";
    } else if constexpr (requires { visit(*this, *field.data()); }) {
      write_sections(name, field);
    } else if constexpr (ValueList<T>) {
      std::string items;
      for (const auto& value : field) items += (items.empty() ? "" : ", ") + config_detail::text_of(value);
      if (!field.empty()) yaml += indent_ + name + ": [" + items + "]\n";
    } else if constexpr (NamedEnum<T>) {
      yaml += indent_ + name + ": " + names_of(T{})[static_cast<std::size_t>(field)] + "\n";
    } else {
      yaml += indent_ + name + ": " + config_detail::text_of(field) + "\n";
    }
  }
  std::string yaml;

 private:
  template <class T>
  void write_sections(const std::string& name, T& field) {
    if (!field.empty()) yaml += indent_ + name + ":\n";
    const std::string outer = std::exchange(indent_, indent_ + "    ");
    for (auto& section : field) {
      const std::size_t dash = yaml.size() + outer.size() + 2;
      visit(*this, section);
      yaml[dash] = '-';
    }
    indent_ = outer;
  }

  std::string indent_;
};

template <class C>
C read_config(const ConfigTree& tree) {
  C config;
  ReadFields reader(tree);
  visit(reader, config);
  reader.refuse_unknown();
  return config;
}

template <class C>
std::string write_config(C config) {
  WriteFields writer;
  visit(writer, config);
  return writer.yaml;
}

}  // namespace xlstm
