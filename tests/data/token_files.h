#pragma once
// Token files as llm.c, Megatron and NumPy write them.
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace xlstm {

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

template <class T>
std::string ids_as(const std::vector<int>& ids) {
  return bytes_of(std::vector<T>(ids.begin(), ids.end()));
}

template <class T>
std::string llmc_file(int magic, int version, const std::vector<int>& ids) {
  std::vector<std::int32_t> header(256, 0);
  header[0] = magic;
  header[1] = version;
  header[2] = static_cast<std::int32_t>(ids.size());
  return bytes_of(header) + ids_as<T>(ids);
}

inline std::string npy_file(const std::string& descr, const std::string& shape, const std::string& values) {
  std::string header = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }";
  header.append((64 - (10 + header.size() + 1) % 64) % 64, ' ');
  header += '\n';
  const auto length = static_cast<std::uint16_t>(header.size());
  std::string file("\x93NUMPY\x01\0", 8);
  file.append(reinterpret_cast<const char*>(&length), 2);
  return file + header + values;
}

// Of sequences of these lengths; documents begin at these sequences, the last bound being their number.
inline std::string megatron_index(std::uint8_t type, int width, const std::vector<std::int32_t>& lengths,
                                  const std::vector<std::int64_t>& documents) {
  std::vector<std::int64_t> offsets;
  std::int64_t at = 0;
  for (const std::int32_t n : lengths) {
    offsets.push_back(at);
    at += std::int64_t{n} * width;
  }
  const std::vector<std::uint64_t> counts{lengths.size(), documents.size()};
  return std::string("MMIDIDX\0\0", 9) + bytes_of(std::vector<std::uint64_t>{1}) + static_cast<char>(type) +
         bytes_of(counts) + bytes_of(lengths) + bytes_of(offsets) + bytes_of(documents);
}

}  // namespace xlstm
