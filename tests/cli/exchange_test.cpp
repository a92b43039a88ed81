// Weights to and from other programs, as a user moves them.
#include "tests/cli/support.h"
#include "tests/data/token_files.h"

namespace xlstm {
namespace {

using testing::HasSubstr;

class Exchange : public CliTest {
 protected:
  Exchange() {
    make_data();
    must_run(train("run", kWide));
  }
  const Arguments kWide{"--set", "model.embedding_dim=128", "--set", "train.steps=2"};
};

TEST_F(Exchange, ExportImportAndGoOn) {
  const Json out = must_run({"checkpoint", "export", "run", "--format", "hf", "--out", "hf", "--check-logits", "8",
                             "--shard-mb", "1", "--json"})
                       .json();
  EXPECT_EQ(out["format"], "hf");
  EXPECT_EQ(files_below(path("hf")).size(), out["files"].size());
  const Json in = must_run({"checkpoint", "import", "hf", "--run", "again", "--json"}).json();
  EXPECT_EQ(in["weights_sha256"], weights("run"));
  EXPECT_EQ(weights("again"), weights("run"));
  must_run({"eval", "--checkpoint", "again", "--data", "data", "--context", "24"});
  must_run({"generate", "--checkpoint", "again", "--prompt", "the", "--tokens", "2"});

  Arguments import{"checkpoint", "import", "hf", "--run", "on", "--config", "tiny.yaml"};
  import.insert(import.end(), kWide.begin(), kWide.end());
  must_run(import);
  EXPECT_THAT(must_run(train("on", kWide)).err, HasSubstr("at step 0"));
  EXPECT_NE(weights("on"), weights("run"));
}

TEST_F(Exchange, BadInput) {
  expect_refused({"checkpoint", "export", "nothere", "--out", "x"}, {"no checkpoint in nothere"});
  expect_refused({"checkpoint", "export", "run", "--out", "data"}, {"--out data", "is there already"});
  expect_refused({"checkpoint", "export", "run", "--out", "x", "--format", "gguf"}, {"--format"});
  expect_refused({"checkpoint", "import", "data", "--run", "x"}, {"data", "expected config.json"});
  must_run({"checkpoint", "export", "run", "--out", "hf"});
  expect_refused({"checkpoint", "import", "hf", "--run", "run"}, {"--run run", "is there already"});
  expect_refused({"checkpoint", "import", "hf", "--run", "x", "--set", "train.steps=2"}, {"--set", "--config"});
  expect_refused({"checkpoint", "import", "hf", "--run", "x", "--config", "tiny.yaml"},
                 {"model.embedding_dim: is 32", "holds a model with 128"});
  write("hf/config.json", "{\"model_type\": ");
  expect_refused({"checkpoint", "import", "hf", "--run", "x"}, {"hf/config.json"});
  EXPECT_FALSE(fs::exists(path("x")));

  must_run(train("sig", {"--set", "model.mixer.input_gate=sigmoid"}));
  expect_refused({"checkpoint", "export", "sig", "--format", "hf", "--out", "x"}, {"sigmoid", "--format xlstm"});
  const Ended own = must_run({"checkpoint", "export", "sig", "--out", "own"});
  EXPECT_THAT(own.err, HasSubstr("layout of this program"));
  must_run({"checkpoint", "import", "own", "--run", "sig2"});
  EXPECT_EQ(weights("sig2"), weights("sig"));
}

// Tokens whose text is not known: everything works but what needs text.
TEST_F(Exchange, TokensOfAnotherTrainer) {
  std::vector<int> ids;
  for (int i = 0; i < 4000; ++i) ids.push_back(i % 50 == 49 ? 299 : (i * i + i) % 200);
  write("tokens.npy", npy_file("<u2", "(4000,)", ids_as<std::uint16_t>(ids)));
  write("tokenizer.json", "{}");
  const Arguments import{"data",         "import", "tokens.npy", "--tokenizer", "tokenizer.json",
                         "--vocab-size", "300",    "--eod-id",   "299",         "--validation-fraction",
                         "0.2"};
  Arguments one = import;
  one.insert(one.end(), {"--out", "imported", "--json"});
  const Json made = must_run(one).json();
  EXPECT_EQ(made["train"]["documents"].get<int>() + made["validation"]["documents"].get<int>(), 80);
  must_run({"data", "verify", "imported"});
  must_run(train("foreign", {"--set", "data.train=imported", "--set", "data.validation=imported"}));
  EXPECT_THAT(must_run({"eval", "--checkpoint", "foreign"}).out, HasSubstr("not known"));
  EXPECT_EQ(must_run({"eval", "--checkpoint", "foreign", "--json"}).json()["bits_per_byte"], nullptr);
  expect_refused({"generate", "--checkpoint", "foreign"}, {"tokenizer.model"});
  expect_refused(one, {"--out imported", "is there already"});
  expect_refused({"data", "import", "nothere.npy", "--out", "x"}, {"nothere.npy"});
  expect_refused({"data", "import", "text.jsonl", "--out", "x"}, {"text.jsonl", "raw-u16"});
}

}  // namespace
}  // namespace xlstm
