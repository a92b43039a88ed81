#include "dist/communicator.h"

#include <algorithm>
#include <cstring>

namespace xlstm {

int Communicator::on_this_host() const {
  int count = 0;
  for (int r = 0; r < size(); ++r) count += host(r) == host(rank()) ? 1 : 0;
  return count;
}

std::vector<std::string> Communicator::gather_texts(const char* what, const std::string& mine, Channel channel) {
  const auto ranks = static_cast<std::size_t>(size());
  std::vector<i64> lengths(ranks);
  const i64 length = static_cast<i64>(mine.size());
  gather_bytes(what, &length, lengths.data(), sizeof length, channel);
  const auto longest = static_cast<std::size_t>(*std::max_element(lengths.begin(), lengths.end()));
  std::string padded = mine, all(longest * ranks, '\0');
  padded.resize(longest);
  if (longest > 0) gather_bytes(what, padded.data(), all.data(), static_cast<i64>(longest), channel);
  std::vector<std::string> texts;
  for (std::size_t r = 0; r < ranks; ++r)
    texts.push_back(all.substr(r * longest, static_cast<std::size_t>(lengths[r])));
  return texts;
}

void Communicator::barrier(const char* what, Channel channel) {
  const char mine = 0;
  std::vector<char> all(static_cast<std::size_t>(size()));
  gather_bytes(what, &mine, all.data(), 1, channel);
}

void Communicator::together(const char* what, const std::function<void()>& work, Channel channel) {
  if (size() == 1) return work();
  std::string wrong;
  try {
    work();
  } catch (const UserError& e) {
    wrong = e.what();
    if (wrong.empty()) wrong = "unknown error";
  }
  const std::vector<std::string> all = gather_texts(what, wrong, channel);
  for (std::size_t r = 0; r < all.size(); ++r) {
    if (all[r].empty()) continue;
    const bool same = std::all_of(all.begin(), all.end(), [&](const std::string& other) { return other == all[r]; });
    throw SharedError(same ? all[r] : fmt::format("{}: {}", name(static_cast<int>(r)), all[r]));
  }
}

}  // namespace xlstm
