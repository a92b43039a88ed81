#include "core/hash.h"

#include <openssl/evp.h>
#include <xxhash.h>

#include "core/check.h"

namespace xlstm {

namespace {

std::string hex_of(const unsigned char* bytes, std::size_t n) {
  std::string out;
  for (std::size_t i = 0; i < n; ++i) out += fmt::format("{:02x}", bytes[i]);
  return out;
}

std::string hex_of(XXH128_hash_t h) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, h);
  return hex_of(canonical.digest, sizeof canonical.digest);
}

}  // namespace

std::string xxh3_hex(const void* data, std::size_t bytes) { return hex_of(XXH3_128bits(data, bytes)); }

std::string sha256_hex(std::string_view bytes) {
  Sha256 h;
  h.update(bytes.data(), bytes.size());
  return h.hex();
}

struct Xxh3::State {
  XXH3_state_t* xxh = XXH3_createState();
  ~State() { XXH3_freeState(xxh); }
};
Xxh3::Xxh3() : state_(std::make_unique<State>()) { XXH3_128bits_reset(state_->xxh); }
Xxh3::~Xxh3() = default;
void Xxh3::update(const void* data, std::size_t bytes) { XXH3_128bits_update(state_->xxh, data, bytes); }
std::string Xxh3::hex() const { return hex_of(XXH3_128bits_digest(state_->xxh)); }

struct Sha256::State {
  EVP_MD_CTX* ctx = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(ctx); }
};
Sha256::Sha256() : state_(std::make_unique<State>()) {
  XL_CHECK(EVP_DigestInit_ex(state_->ctx, EVP_sha256(), nullptr) == 1, "sha256 is not available");
}
Sha256::~Sha256() = default;
void Sha256::update(const void* data, std::size_t bytes) {
  XL_CHECK(EVP_DigestUpdate(state_->ctx, data, bytes) == 1, "sha256 failed");
}
std::string Sha256::hex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned n = 0;
  XL_CHECK(EVP_DigestFinal_ex(state_->ctx, digest, &n) == 1, "sha256 failed");
  return hex_of(digest, n);
}

}  // namespace xlstm
