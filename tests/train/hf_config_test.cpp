// What config.json says, and what it cannot say (spec §10.1).
#include "train/hf_config.h"

#include <gmock/gmock.h>

namespace xlstm {
namespace {

using testing::HasSubstr;

ModelConfig model_of(i64 dim, i64 heads) {
  ModelConfig cfg{.embedding_dim = dim, .num_blocks = 3};
  cfg.mixer.num_heads = heads;
  return cfg;
}

std::string refused(const Json& json) {
  try {
    model_of_hf_config(json, "config.json");
    return "";
  } catch (const UserError& e) {
    return e.what();
  }
}

TEST(HfConfig, SizesStandUnderBothNamesAndFactorsGiveExactWidths) {
  for (const auto& [dim, width] : {std::pair<i64, i64>{768, 2112}, {1024, 2752}, {1536, 4160}, {2048, 5504}}) {
    ModelConfig cfg = model_of(dim, 4);
    ASSERT_EQ(cfg.ffn_dim(), width);
    const Json json = hf_config(cfg, DType::f32, 0);
    EXPECT_EQ(json["hidden_size"], dim);
    EXPECT_EQ(json["embedding_dim"], dim);
    EXPECT_EQ(json["num_hidden_layers"], 3);
    EXPECT_EQ(json["num_blocks"], 3);
    // As the reader computes it: int((d f + 63) // 64 * 64). The rounded factor 2.667 gives 2048 for d = 768.
    const double f = json["ffn_proj_factor"].get<double>();
    EXPECT_EQ(std::floor((static_cast<double>(dim) * f + 63) / 64) * 64, static_cast<double>(width));
    const ModelConfig back = model_of_hf_config(json, "config.json");
    EXPECT_EQ(back.ffn_dim(), width);
    EXPECT_EQ(back.qk_dim(), cfg.qk_dim());
    EXPECT_EQ(back.v_dim(), cfg.v_dim());
    EXPECT_EQ(back.num_blocks, 3);
  }
}

TEST(HfConfig, FloatsAreWrittenAsFloats) {
  const Json json = Json::parse(hf_config(model_of(768, 6), DType::bf16, 7).dump());
  for (const char* key : {"gate_soft_cap", "output_logit_soft_cap", "v_dim_factor", "qk_dim_factor", "ffn_proj_factor",
                          "norm_eps", "eps"})
    EXPECT_TRUE(json[key].is_number_float()) << key << " " << json[key];
  EXPECT_EQ(json["bos_token_id"], 7);
  EXPECT_EQ(json["torch_dtype"], "bfloat16");
}

TEST(HfConfig, WhatTheLayoutCannotSay) {
  EXPECT_EQ(why_not_hf(model_of(128, 2)), std::nullopt);
  ModelConfig sigmoid = model_of(128, 2);
  sigmoid.mixer.input_gate = InputGate::sigmoid;
  EXPECT_THAT(*why_not_hf(sigmoid), HasSubstr("sigmoid input gate"));
  EXPECT_THAT(*why_not_hf(model_of(64, 2)), HasSubstr("that of q and k is 32"));
  ModelConfig rms = model_of(128, 2);
  rms.mixer.cell_norm = HeadNorm::rmsnorm;
  EXPECT_THAT(*why_not_hf(rms), HasSubstr("model.mixer.cell_norm is rmsnorm"));
  ModelConfig eps = model_of(128, 2);
  eps.mixer.cell_norm_eps = 1e-2;
  EXPECT_THAT(*why_not_hf(eps), HasSubstr("model.mixer.cell_norm_eps is 0.01"));
}

TEST(HfConfig, TheReleasedModelNamesItsSizesOnce) {
  const Json released{{"model_type", "xlstm"},
                      {"embedding_dim", 4096},
                      {"num_blocks", 32},
                      {"num_heads", 8},
                      {"ffn_proj_factor", 2.667}};
  const ModelConfig cfg = model_of_hf_config(released, "config.json");
  EXPECT_EQ(cfg.embedding_dim, 4096);
  EXPECT_EQ(cfg.num_blocks, 32);
  EXPECT_EQ(cfg.ffn_dim(), 10944);
  EXPECT_EQ(cfg.mixer.num_heads, 8);
}

TEST(HfConfig, WhatCannotBeImportedIsRefusedByKey) {
  const Json good = hf_config(model_of(128, 2), DType::f32, 0);
  EXPECT_EQ(refused(good), "");
  const auto with = [&](const char* key, const Json& value) {
    Json json = good;
    json[key] = value;
    return refused(json);
  };
  EXPECT_THAT(with("model_type", "llama"), HasSubstr("'model_type' is \"llama\"; only \"xlstm\""));
  EXPECT_THAT(with("model_type", nullptr), HasSubstr("found none"));
  EXPECT_THAT(with("use_bias", true), HasSubstr("'use_bias' is true"));
  EXPECT_THAT(with("tie_word_embeddings", true), HasSubstr("tie_word_embeddings"));
  EXPECT_THAT(with("weight_mode", "fused"), HasSubstr("'weight_mode' is \"fused\""));
  EXPECT_THAT(with("hidden_size", 256), HasSubstr("hidden_size is 256 and embedding_dim is 128"));
  EXPECT_THAT(with("num_heads", "two"), HasSubstr("field 'num_heads' is of the wrong type"));
  EXPECT_THAT(with("num_heads", 7), HasSubstr("config.json: model.mixer.qk_dim_factor"));
  EXPECT_THAT(refused(Json::array()), HasSubstr("no model of that layout"));
}

}  // namespace
}  // namespace xlstm
