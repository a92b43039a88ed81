#include "train/html.h"

#include "core/json.h"

namespace xlstm {

namespace {

constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --paper: #fbfbf9; --card: #ffffff; --ink: #1d2126; --soft: #5d6670; --grid: #dfe2e5;
  --rule: #d5d9dd; --series-0: #1f6fb4; --series-1: #d1570d; --series-2: #2a8a4a; --series-3: #a83279;
  --series-4: #6a51a3; --series-5: #8c6d1f; --series-6: #13828c; --series-7: #b3262e; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --card: #1c2024; --ink: #e4e7ea; --soft: #9aa4ae;
  --grid: #343a40; --rule: #3a4148; --series-0: #6cb2f0; --series-1: #ff9a57; --series-2: #6fcf8e; --series-3: #ef8bc4;
  --series-4: #b5a1f2; --series-5: #dcb95a; --series-6: #5fd0da; --series-7: #ff8087; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 1.2rem 1rem 3rem; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2rem 0 .6rem; }
p { margin: .3rem 0 .7rem; max-width: 75ch; overflow-wrap: anywhere; }
.soft { color: var(--soft); }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--rule); border-radius: 8px; }
table { border-collapse: collapse; min-width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .5rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--rule); }
th { color: var(--soft); font-weight: 600; font-size: .85rem; white-space: normal; vertical-align: bottom; }
td { vertical-align: top; }
td small { display: block; color: var(--soft); }
td:first-child, th:first-child { text-align: left; position: sticky; left: 0; background: var(--card); }
tr:last-child td { border-bottom: 0; }
.scroll + p { margin-top: .6rem; }
@media (max-width: 600px) { td:first-child { white-space: normal; min-width: 11.3rem; max-width: 48vw; } }
.plots { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); }
figure { margin: 0; padding: .6rem .7rem; background: var(--card); border: 1px solid var(--rule); border-radius: 8px;
  min-width: 0; }
figcaption { font-weight: 600; font-size: .9rem; margin-bottom: .2rem; }
svg { display: block; width: 100%; height: auto; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: 0 0 .8rem; padding: 0; list-style: none; }
.legend li, td { overflow-wrap: anywhere; }
.dot { display: inline-block; width: .8em; height: .8em; border-radius: 50%; margin-right: .4em; vertical-align: -.05em; }
pre { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: .7rem .9rem; margin: 0 0 .8rem;
  white-space: pre-wrap; overflow-wrap: anywhere; font: 13px/1.45 ui-monospace, monospace; }
details { margin: .6rem 0; } summary { cursor: pointer; font-weight: 600; }
.bad, td .bad { color: var(--series-7); font-weight: 600; }
)";

}  // namespace

std::string html_text(const std::string& text) {
  // nlohmann's own repair of UTF-8: what stands between the quotes of a JSON text, read back.
  const std::string whole = Json::parse(to_text(Json(text))).get<std::string>();
  std::string out;
  for (const char c : whole) switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      case '\'': out += "&#39;"; break;
      default: out += static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t' ? ' ' : c;
    }
  return out;
}

std::string html_table(const std::vector<std::vector<std::string>>& rows) {
  std::string out = "<div class=\"scroll\"><table>\n";
  for (std::size_t r = 0; r < rows.size(); ++r) {
    out += "<tr>";
    for (const std::string& cell : rows[r]) out += (r == 0 ? "<th>" : "<td>") + cell + (r == 0 ? "</th>" : "</td>");
    out += "</tr>\n";
  }
  return out + "</table></div>\n";
}

std::string html_section(const std::string& title, const std::string& body) {
  return body.empty() ? "" : "<section><h2>" + html_text(title) + "</h2>\n" + body + "</section>\n";
}

std::string html_folded(const std::string& title, const std::string& body) {
  return "<details><summary>" + html_text(title) + "</summary>\n" + body + "</details>\n";
}

std::string html_page(const std::string& title, const std::string& body) {
  return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>" +
         html_text(title) + "</title>\n<style>" + kStyle + "</style>\n</head>\n<body><main>\n" + body +
         "</main></body>\n</html>\n";
}

}  // namespace xlstm
