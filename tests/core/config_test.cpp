// A config is a struct and one visit(): reading, refusing, writing and overriding all go through it.
#include "core/config.h"

#include "tests/core/support.h"
#include "tests/support/mutate.h"

namespace xlstm {
namespace {

using testing::AllOf;
using testing::HasSubstr;

enum class Gate : std::uint8_t { exp, sigmoid };
constexpr auto names_of(Gate) { return std::array{"exp", "sigmoid"}; }

struct Mixer {
  i64 num_heads = 4;
  Gate gate = Gate::exp;
  Range bias{3, 6};
};
void visit(auto& v, Mixer& c) {
  v("num_heads", c.num_heads);
  v("gate", c.gate);
  v("bias", c.bias);
}

struct Config {
  std::string name = "default";
  double lr = 1e-3;
  bool exact = true;
  Mixer mixer;
};
void visit(auto& v, Config& c) {
  v("name", c.name);
  v("lr", c.lr);
  v("exact", c.exact);
  v("mixer", c.mixer);
}

Config read(const std::string& yaml, const std::vector<std::string>& assignments = {}) {
  ConfigTree tree = ConfigTree::from_text(yaml, "f.yaml");
  for (const std::string& assignment : assignments) tree.set(assignment);
  return read_config<Config>(tree);
}
std::string refusal(const std::string& yaml, const std::vector<std::string>& assignments = {}) {
  return error_of([&] { read(yaml, assignments); });
}

TEST(Config, ReadsWhatIsThereAndKeepsDefaults) {
  const Config c = read("name: run\nmixer:\n  gate: sigmoid\n  bias: -2..1.5\n");
  EXPECT_EQ(c.name, "run");
  EXPECT_EQ(c.mixer.gate, Gate::sigmoid);
  EXPECT_EQ(c.mixer.bias.from, -2);
  EXPECT_EQ(c.mixer.bias.to, 1.5);
  EXPECT_EQ(c.mixer.num_heads, 4);
  EXPECT_EQ(c.lr, 1e-3);
  EXPECT_EQ(read("mixer: {bias: 7}\n").mixer.bias.to, 7);
  EXPECT_EQ(read("").name, "default");
  EXPECT_EQ(read("mixer:\n").mixer.num_heads, 4);
}

TEST(Config, UnknownKeysAreNamedWithLineAndNearestKey) {
  EXPECT_EQ(refusal("name: a\nmixer:\n  num_haeds: 2\n"),
            "f.yaml:3: unknown key 'mixer.num_haeds'; did you mean 'mixer.num_heads'?");
  EXPECT_EQ(refusal("num_heads: 2\n"), "f.yaml:1: unknown key 'num_heads'; did you mean 'mixer.num_heads'?");
  EXPECT_THAT(refusal("mixr:\n  gate: exp\n"), AllOf(HasSubstr("unknown key 'mixr'"), HasSubstr("'mixer'")));
  EXPECT_THAT(refusal("mixer: {gate: {a: 1}}\n"), HasSubstr("'mixer.gate' is a single value"));
  EXPECT_THAT(refusal("mixer: 3\n"), HasSubstr("'mixer' is a section"));
  EXPECT_THAT(refusal("", {"mixer=3"}), HasSubstr("'mixer' is a section"));
  EXPECT_THAT(refusal("name: a\nname: b\n"), HasSubstr("f.yaml:2: key 'name' appears twice"));
  EXPECT_THAT(refusal("name: [a, b]\n"), HasSubstr("f.yaml:1: 'name' is a list"));
  EXPECT_THAT(refusal("words"), HasSubstr("f.yaml"));
  EXPECT_THAT(refusal("mixer: {gate: exp\n"), HasSubstr("not valid YAML"));
}

TEST(Config, Types) {
  for (const char* bad : {"2.5", "many", "0x10", "1e3", "99999999999999999999", "' 4'"})
    EXPECT_THAT(refusal(fmt::format("mixer:\n  num_heads: {}\n", bad)), HasSubstr("f.yaml:2: 'mixer.num_heads' is"))
        << bad;
  for (const char* bad : {"fast", "nan", "inf", "1e999", "1,5"})
    EXPECT_THAT(refusal(fmt::format("lr: {}\n", bad)), HasSubstr("'lr' is")) << bad;
  for (const char* bad : {"yes", "1", "True"})
    EXPECT_THAT(refusal(fmt::format("exact: {}\n", bad)), HasSubstr("true or"));
  for (const char* bad : {"1..", "a..b", "1..2..3"})
    EXPECT_THAT(refusal(fmt::format("mixer: {{bias: {}}}\n", bad)), HasSubstr("from..to")) << bad;
  EXPECT_EQ(refusal("mixer: {gate: expp}\n"),
            "f.yaml:1: 'mixer.gate' is 'expp'; expected exp | sigmoid; did you mean 'exp'?");
  EXPECT_EQ(read("lr: 5\n").lr, 5);
  EXPECT_EQ(read("mixer: {num_heads: -3}\n").mixer.num_heads, -3);
}

TEST(Config, Assignments) {
  EXPECT_EQ(read("lr: 1\n", {"lr=2", "lr=3"}).lr, 3);
  EXPECT_EQ(read("", {"name=a=b"}).name, "a=b");
  EXPECT_EQ(read("", {"name="}).name, "");
  EXPECT_THAT(refusal("", {"lr"}), HasSubstr("expected key=value"));
  EXPECT_THAT(refusal("", {"=3"}), HasSubstr("expected key=value"));
  EXPECT_THAT(refusal("", {"lrr=3"}), AllOf(HasSubstr("--set lrr=3"), HasSubstr("'lr'")));
}

// What is written is complete and reads back to the same values, to the last bit.
TEST(Config, WriteAndReadBack) {
  Config c;
  c.name = "a \"quoted\" name: with # and \\ and\ttab, and Größe";
  c.lr = 0.1 + 0.2;
  c.exact = false;
  c.mixer = {.num_heads = -7, .gate = Gate::sigmoid, .bias = {1e-300, 6}};
  const std::string yaml = write_config(c);
  const Config back = read(yaml);
  EXPECT_EQ(back.name, c.name);
  EXPECT_EQ(back.lr, c.lr);
  EXPECT_EQ(back.exact, c.exact);
  EXPECT_EQ(back.mixer.num_heads, c.mixer.num_heads);
  EXPECT_EQ(back.mixer.gate, c.mixer.gate);
  EXPECT_EQ(back.mixer.bias.from, c.mixer.bias.from);
  EXPECT_EQ(write_config(back), yaml);
  for (const char* name : {"two\nlines", "null", "true", "~", "", " padded ", "- item", "{a: b}"}) {
    c.name = name;
    EXPECT_EQ(read(write_config(c)).name, name);
  }
}

TEST(Config, AliasesDoNotMakeItEndless) {
  EXPECT_EQ(read("mixer: &m {num_heads: 2}\n").mixer.num_heads, 2);
  EXPECT_THAT(refusal("mixer: &m {num_heads: 2, self: *m}\n"), HasSubstr("alias"));
  std::string bomb = "a0: &a0 {x: 1}\n";
  for (int i = 1; i < 12; ++i) {
    bomb += fmt::format("a{0}: &a{0} {{", i);
    for (int j = 0; j < 9; ++j) bomb += fmt::format("k{}: *a{}, ", j, i - 1);
    bomb += "z: 1}\n";
  }
  EXPECT_THAT(refusal(bomb), HasSubstr("without end"));
}

// Whatever stands in the file: a config, or one line that says what is wrong.
TEST(Config, MutatedFilesNeverCrash) {
  const std::string whole = "name: run\nlr: 3e-4\nexact: false  # not\nmixer: {num_heads: 8, gate: sigmoid}\n";
  int refused = 0;
  for (std::uint64_t round = 0; round < 3000; ++round) {
    const std::string message = refusal(mutated(whole, kYamlWords, round));
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    refused += message != "";
  }
  EXPECT_GT(refused, 1000);
}

// Keys that the user names, and lists.
struct Many {
  std::map<std::string, std::string> sets;
  std::vector<std::string> prompts;
};
void visit(auto& v, Many& c) {
  v("sets", c.sets);
  v("prompts", c.prompts);
}

TEST(Config, NamesAndLists) {
  const auto read_many = [](const std::string& text, const std::vector<std::string>& assignments = {}) {
    ConfigTree tree = ConfigTree::from_text(text, "f.yaml");
    for (const std::string& a : assignments) tree.set(a);
    return read_config<Many>(tree);
  };
  const Many c =
      read_many("sets: {code: a/b, wiki: c}\nprompts: [\"one: 1\", two]\n", {"sets.more=d", "prompts.2=three"});
  EXPECT_EQ(c.sets, (std::map<std::string, std::string>{{"code", "a/b"}, {"more", "d"}, {"wiki", "c"}}));
  EXPECT_EQ(c.prompts, (std::vector<std::string>{"one: 1", "two", "three"}));
  const Many back = read_many(write_config(c));
  EXPECT_EQ(back.sets, c.sets);
  EXPECT_EQ(back.prompts, c.prompts);
  EXPECT_EQ(write_config(Many()), "");
  EXPECT_TRUE(read_many("prompts: []\n").prompts.empty());
  ConfigTree tree = ConfigTree::from_text("prompts: [a, b, c]\n", "f.yaml");
  tree.overlay(ConfigTree::from_text("prompts: [d]\n", "g.yaml"));
  EXPECT_EQ(read_config<Many>(tree).prompts, (std::vector<std::string>{"d"}));
  const auto refused = [&](const std::string& text) {
    try {
      read_many(text);
    } catch (const UserError& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  EXPECT_THAT(refused("sets: x\n"), HasSubstr("a section of names is expected"));
  EXPECT_THAT(refused("prompts: x\n"), HasSubstr("a list is expected"));
  EXPECT_THAT(refused("prompts: {0: a, 2: b}\n"), HasSubstr("unknown key 'prompts.2'"));
  EXPECT_THAT(refused("prompts: [a, [b]]\n"), HasSubstr("f.yaml:1: unknown key 'prompts.1'"));
}

struct Sections {
  std::vector<Mixer> mixers;
};
void visit(auto& v, Sections& c) { v("mixers", c.mixers); }

TEST(Config, ListsOfSections) {
  const auto read_sections = [](const std::string& text, const std::vector<std::string>& assignments = {}) {
    ConfigTree tree = ConfigTree::from_text(text, "f.yaml");
    for (const std::string& a : assignments) tree.set(a);
    return read_config<Sections>(tree);
  };
  const Sections c = read_sections("mixers:\n  - num_heads: 2\n  - {gate: sigmoid}\n  - {}\n",
                                   {"mixers.0.gate=sigmoid", "mixers.3.num_heads=7"});
  ASSERT_EQ(c.mixers.size(), 4u);
  EXPECT_EQ(c.mixers[0].num_heads, 2);
  EXPECT_EQ(c.mixers[0].gate, Gate::sigmoid);
  EXPECT_EQ(c.mixers[1].num_heads, 4);
  EXPECT_EQ(c.mixers[1].gate, Gate::sigmoid);
  EXPECT_EQ(c.mixers[3].num_heads, 7);
  EXPECT_EQ(write_config(read_sections(write_config(c))), write_config(c));
  EXPECT_THAT(write_config(c), testing::StartsWith("mixers:\n  - num_heads: 2\n    gate: sigmoid\n"));
  EXPECT_EQ(write_config(Sections()), "");
  std::string eleven = "mixers:\n";
  for (int i = 0; i < 11; ++i) eleven += fmt::format("  - num_heads: {}\n", i);
  EXPECT_EQ(read_sections(eleven).mixers.size(), 11u);

  ConfigTree tree = ConfigTree::from_text("mixers: [{}, {num_heads: 5}]\n", "f.yaml");
  tree.overlay(ConfigTree::from_text("mixers: [{num_heads: 9}]\n", "g.yaml"));
  EXPECT_EQ(read_config<Sections>(tree).mixers.size(), 1u);
  const auto refused = [&](const std::string& text, const std::vector<std::string>& assignments = {}) {
    return error_of([&] { read_sections(text, assignments); });
  };
  EXPECT_EQ(refused("mixers: []\n"), "f.yaml:1: 'mixers' is an empty list; write its entries, or leave the line out");
  EXPECT_THAT(refused("mixers: x\n"), HasSubstr("a list is expected"));
  EXPECT_THAT(refused("mixers: [x]\n"), HasSubstr("f.yaml:1: 'mixers.0' is 'x'; a section of keys is expected"));
  EXPECT_THAT(refused("mixers: {a: 1}\n"), HasSubstr("unknown key 'mixers.a'"));
  EXPECT_THAT(refused("mixers:\n  - {}\n  - {num_haeds: 1}\n"),
              AllOf(HasSubstr("f.yaml:3"), HasSubstr("'mixers.1.num_haeds'"), HasSubstr("did you mean")));
  EXPECT_THAT(refused("mixers:\n"), HasSubstr("f.yaml:1: 'mixers' is an empty list"));
  EXPECT_THAT(refused("mixers: [{}]\n", {"mixers.2.num_heads=3"}), HasSubstr("unknown key 'mixers.2.num_heads'"));
}

}  // namespace
}  // namespace xlstm
