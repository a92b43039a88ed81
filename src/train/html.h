#pragma once
// The parts of a page that needs nothing but itself.
#include <string>
#include <vector>

namespace xlstm {

std::string html_text(const std::string& text);  // with & < > " ' escaped, and bytes that are no UTF-8 replaced

// A row per entry, the first being the head; cells are HTML. It scrolls by itself where it is wider than the page.
std::string html_table(const std::vector<std::vector<std::string>>& rows);

std::string html_section(const std::string& title, const std::string& body);
std::string html_folded(const std::string& title, const std::string& body);
std::string html_page(const std::string& title, const std::string& body);

}  // namespace xlstm
