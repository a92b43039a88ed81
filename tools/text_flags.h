#pragma once
// The options of every command that reads raw text.
#include <CLI/CLI.hpp>

#include "data/text_source.h"

namespace xlstm {

inline void add_text_flags(CLI::App& cmd, TextOptions& options) {
  const auto set_format = [&options](const std::string& name) {
    options.as = name == "jsonl" ? TextFormat::jsonl : TextFormat::txt;
  };
  cmd.add_option_function<std::string>("--as", set_format, "Read every file as this, whatever its name")
      ->check(CLI::IsMember({"txt", "jsonl"}));
  cmd.add_option("--extension", options.extensions,
                 "Of files in folders, e.g. .h; '' for names without one; may be repeated")
      ->allow_extra_args(false);
  cmd.add_option("--text-field", options.text_field, "Of JSON lines")->capture_default_str();
  cmd.add_option("--document-separator", options.document_separator,
                 "Cut txt into documents at lines that are exactly this");
  cmd.add_flag("--strict", options.strict,
               "Refuse invalid UTF-8 and malformed lines instead of mending and counting them");
}

}  // namespace xlstm
