// Tables of shares as a picture: a row a subject, a panel a task, a cell a size, darker where more is right.
#pragma once
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

namespace heat_map {

struct panel {
  std::string title, under;         // under: what the columns count
  std::vector<std::string> columns;
};
struct row {
  std::string name, note;
  std::vector<std::vector<double>> shares;  // of each panel's columns, 0 to 1
};

// No mark-up in the texts.
inline std::string draw(const std::string& title, const std::vector<std::string>& head, const std::vector<panel>& panels, const std::vector<row>& rows) {
  constexpr double left = 16, names = 290, cell_width = 29, cell_height = 19, gap = 24;
  std::string svg;
  const auto text = [&](double x, double y, const std::string& words, int size, const char* fill, const char* anchor, bool bold = false) {
    char at[160];
    std::snprintf(at, sizeof at, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"%d\" fill=\"%s\" text-anchor=\"%s\"%s>", x, y, size, fill, anchor, bold ? " font-weight=\"bold\"" : "");
    svg += at + words + "</text>\n";
  };
  constexpr const char *ink = "#1f2328", *soft = "#6a737d";
  text(left, 28, title, 17, ink, "start", true);
  double top = 48;
  for (const std::string& line : head) text(left, top, line, 11, soft, "start"), top += 16;
  top += 44;
  double x = left + names;
  for (std::size_t p = 0; p < panels.size(); ++p) {
    text(x, top - 32, panels[p].title, 13, ink, "start", true);
    text(x, top - 18, panels[p].under, 10, soft, "start");
    for (std::size_t c = 0; c < panels[p].columns.size(); ++c, x += cell_width) {
      text(x + cell_width / 2, top - 4, panels[p].columns[c], 10, soft, "middle");
      for (std::size_t r = 0; r < rows.size(); ++r) {
        const double share = rows[r].shares[p][c], y = top + cell_height * static_cast<double>(r);
        const auto mix = [&](int light, int dark) { return static_cast<int>(std::lround(light + (dark - light) * share)); };
        char cell[200];
        std::snprintf(cell, sizeof cell, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"#%02x%02x%02x\"/>\n", x, y, cell_width - 1, cell_height - 1,
                      mix(0xf0, 0x1f), mix(0xf4, 0x5f), mix(0xf8, 0xa8));
        svg += cell;
        text(x + cell_width / 2, y + 13, std::to_string(std::lround(100 * share)), 10, share > 0.55 ? "#ffffff" : ink, "middle");
      }
    }
    x += gap;
  }
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const double y = top + cell_height * static_cast<double>(r) + 13;
    text(left, y, rows[r].name, 12, ink, "start");
    text(left + names - 14, y, rows[r].note, 10, soft, "end");
  }
  const int width = static_cast<int>(x), height = static_cast<int>(top + cell_height * static_cast<double>(rows.size()) + 20);
  const std::string size = std::to_string(width) + "\" height=\"" + std::to_string(height);
  return "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + std::to_string(width) + " " + std::to_string(height) + "\" width=\"" + size +
         "\" font-family=\"system-ui, sans-serif\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n" + svg + "</svg>\n";
}

}  // namespace heat_map
