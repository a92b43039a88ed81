#pragma once
// Which algorithm computes a matrix product. The library proposes several; they are timed when a product first comes
// up, the fastest is taken, and the choice is kept as text, so that a run that is resumed repeats its bits. Plain C++:
// nothing here knows the library.
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/json.h"

namespace xlstm {

// What a product looks like to the matrix library. Equal ones get the same algorithm.
struct ProductKey {
  i64 m, n, k, lda, ldb, ldc, ldz;
  int type_in, type_out;  // the library's numbers
  bool transpose_a, transpose_b;
  bool plus_z;  // c = z + a b, with z being c where it accumulates
  bool in_place;
  int alignment_a, alignment_b, alignment_c, alignment_z;  // of the addresses, in bytes, at most 256
  auto operator<=>(const ProductKey&) const = default;     // NOLINT(modernize-use-nullptr): a fault of the check
};

struct ProductProposal {
  std::string algorithm;    // the library's bytes, in hexadecimal
  std::string description;  // for people
  double seconds = 0;       // 0: not timed; infinite: it does not work
};

struct ProductChoice {
  std::size_t taken = 0;
  std::vector<ProductProposal> proposals;
  const ProductProposal& algorithm() const { return proposals[taken]; }
};

// Times every proposal by seconds_of(index): once to warm up, then in rounds, of which the fastest counts. Takes the
// fastest; an earlier proposal only has to yield to one that is 2 % faster, so that noise decides seldom.
ProductChoice choose_fastest(std::vector<ProductProposal> proposals,
                             const std::function<double(std::size_t)>& seconds_of);

// The choices of one device with one version of the library.
class ProductChoices {
 public:
  ProductChoices(std::string device, std::string library) : device_(std::move(device)), library_(std::move(library)) {}

  // Takes over what text() gave in an earlier process. Choices for other devices and versions stay in the text. The
  // answer says for which ones there are some, if there are none for these: "" otherwise. UserError where it is
  // damaged.
  std::string take(const std::string& text);

  const ProductChoice* find(const ProductKey& key) const;
  const ProductChoice& add(const ProductKey& key, ProductChoice choice);

  std::string text() const;

 private:
  std::string device_, library_;
  std::map<ProductKey, ProductChoice> choices_;
  Json others_ = Json::array();
};

std::string to_hex(const void* data, std::size_t bytes);
bool from_hex(const std::string& text, void* data, std::size_t bytes);  // false where it is not that many bytes

}  // namespace xlstm
