// Fewer tokens for trained vision transformers: DiffRate, and what it is compared with.
//
//   TokensOptions options{.method = TokenMethod::DiffRate, .share = 0.6};
//   const TokensResult result = reduce_model_tokens(read_onnx("deit.onnx"), open_dataset("images/"), options,
//   progress); write_onnx(result.graph, "deit.0.6.onnx");
//
// Chen et al., "DiffRate: Differentiable Compression Rate for Efficient Vision Transformers", ICCV 2023
// (arXiv 2305.17997). The road: find attention, insert rates with masks, learn them with frozen weights,
// round them to counts that meet the budget, rewrite to operators on tokens. docs/diffrate.md describes the
// method and where this departs from it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lithe/metrics/evaluate.h"
#include "lithe/tokens/learn.h"

namespace lithe {

enum class TokenMethod {
  DiffRate,  // learnt counts, pruning and merging
  Tome,      // pairs of similar keys become one, as many in each block
  Evit,      // at three depths the less important tokens become one
  Random,    // counts drawn at random, with DiffRate's operators
  Fixed,     // counts that fall evenly, with DiffRate's operators
};

const char* token_method_name(TokenMethod method);  // "diffrate", ...

/// Whose attention says how important a token is.
enum class TokenImportance {
  Auto,   // special tokens that are read behind the last block; else see TokenModel::rows
  Class,  // the first special token
  Mean,   // all queries
};

struct TokensOptions {
  TokenMethod method = TokenMethod::DiffRate;
  double share = 0.6;                     // of the dense multiply-accumulates, in (0, 1]
  std::optional<TokenSchedule> schedule;  // instead of one from `share`, for the operators of DiffRate
  TokenKind kind = TokenKind::Both;       // of DiffRate, Random and Fixed
  TokenFall fall = TokenFall::Fraction;   // of Fixed
  TokenSizes sizes = TokenSizes::Faithful;
  double own_mass = 0;       // see CompressOptions; the counts that are chosen are the most an image keeps
  bool class_rows = false;   // see CompressOptions
  bool first_block = false;  // block 1 may remove tokens too (that of ToMe always does)
  TokenImportance importance = TokenImportance::Auto;
  std::int64_t granularity = 1;
  std::uint64_t seed = 0;
  RateLearning learning;  // its share is that of these options
  /// Of the search. learning_rate 0: chosen by the number of steps, 0.1 for 150 and 0.01 from 1500 on; epochs
  /// 0: see `search_epochs`. Its checkpoints, --resume, device, threads and time budget are those of
  /// fine-tuning too, whose checkpoints lie in a folder "fine_tune" below.
  TrainOptions train{.epochs = 0, .batch = 16, .learning_rate = 0};
  std::int64_t repair_samples = 128;  // to find out which block misses a token least
  std::int64_t fine_tune_epochs =
      0;  // of all weights with the schedule fixed, and the dense model as teacher
  TrainOptions fine_tune{.batch = 16, .optimiser = AdamW{}, .learning_rate = 2e-5, .weight_decay = 0.05};
};

struct TokensResult {
  Graph graph;
  TokenModel model;
  TokenCost cost;
  std::vector<TokenStep> steps;
  std::vector<std::int64_t> tokens;  // behind each block
  double own_mass = 0;               // if not 0, these counts and their cost are the most of an image
  TokenSchedule schedule;  // of the operators of DiffRate; of Tome and Evit what they keep, as pruning
  std::optional<TokenSchedule> learnt;            // before it was brought to the budget
  std::int64_t macs_before = 0, macs = 0;         // of one sample, as `measure_cost` counts them
  std::vector<EpochRecord> history, fine_tuning;  // of the search, and of the weights behind it
  std::vector<std::string> notes, warnings;       // what is worth knowing, and what the user should mind
  bool complete = true;                           // false if a time budget ended the search or fine-tuning
};

/// Epochs of the search for `samples` images in steps of `batch`, where none are given: as many as come to
/// 180 steps.
std::int64_t search_epochs(std::int64_t samples, std::int64_t batch);

/// Finds blocks and costs without rewriting: what a dry run shows.
struct TokensPlan {
  Graph prepared;
  TokenModel model;
  TokenCost cost;
  TokenLimits limits;
  TokenRange range;  // of the method
};
TokensPlan plan_tokens(const Graph& model, const TokensOptions& options);
/// Throws what of `reduce_model_tokens` can be known before: a share that cannot be reached (with the range
/// that can), a schedule that does not fit.
void check_tokens(const TokensPlan& plan, const TokensOptions& options);

/// `data` is needed by TokenMethod::DiffRate and for fine-tuning: a few hundred to a few thousand images,
/// with labels or without. Throws Error(Input) as `find_attention` does, if the share cannot be reached (with
/// the range that can), or if the schedule does not fit. Throws Interrupted after Ctrl-C, with a checkpoint
/// if the options name a folder.
TokensResult reduce_model_tokens(const Graph& model, const DatasetPtr& data, const TokensOptions& options,
                                 Progress& progress);
TokensResult reduce_model_tokens(const TokensPlan& plan, const DatasetPtr& data, const TokensOptions& options,
                                 Progress& progress);

/// The steps of one method at the budget, for comparisons; not for DiffRate, which learns. Where the method
/// does not come so far down, they cost more.
std::vector<TokenStep> steps_of(TokenMethod method, const TokensPlan& plan, const TokensOptions& options);

}  // namespace lithe
