#include "cli/tokens_report.h"

#include <filesystem>
#include <map>

#include "cli/json.h"
#include "cli/score_json.h"
#include "cli/train_report.h"

namespace lithe::cli {
namespace {

using Rows = std::vector<std::vector<std::string>>;
const std::vector<std::string> kHeader{"block", "tokens in", "after pruning", "after merging", "operator"};

const char* step_name(const TokensResult& result, const TokenStep& step) {
  switch (step.kind) {
    case TokenStep::Kind::Reduce:
      if (result.own_mass > 0) return "TokenReduceOwn";
      return step.prune == step.merge ? "TokenPrune" : "TokenReduce";
    case TokenStep::Kind::Tome:
      return "TomeMerge";
    case TokenStep::Kind::Evit:
      return "EvitReduce";
    case TokenStep::Kind::None:
      break;
  }
  return "";
}

std::int64_t tokens_in(const TokensResult& result, std::size_t l) {
  return l == 0 ? result.model.tokens : result.tokens[l - 1];
}

Rows block_rows(const TokensResult& result) {
  Rows rows;
  for (std::size_t l = 0; l < result.steps.size(); ++l)
    rows.push_back({result.model.blocks[l].name, std::to_string(tokens_in(result, l)),
                    std::to_string(result.schedule.prune[l]), std::to_string(result.tokens[l]),
                    step_name(result, result.steps[l])});
  return rows;
}

double ratio(const TokensResult& result) {
  return static_cast<double>(result.macs) / static_cast<double>(result.macs_before);
}

std::string mega(std::int64_t macs) {
  return fmt::format("{:.3f} M", static_cast<double>(macs) / 1e6);
}

std::string with_spread(const Spread& spread, int digits) {
  return fmt::format("{:.{}f} ± {:.{}f}", spread.mean, digits, spread.deviation, digits);
}

json spread_json(const Spread& spread) {
  return {
      {"mean", spread.mean}, {"deviation", spread.deviation}, {"least", spread.least}, {"most", spread.most}};
}

/// What images with counts of their own keep; null where all keep as many, or where there are no images.
json own_json(const TokensSummary& summary) {
  if (!summary.own) return nullptr;
  json tokens = json::array();
  for (const Spread& one : summary.own->tokens) tokens.push_back(spread_json(one));
  return {{"mass", summary.options.own_mass},
          {"n", summary.own->images},
          {"macs_ratio", spread_json(summary.own->macs)},
          {"tokens", tokens}};
}

Rows own_rows(const TokensResult& result, const OwnCounts& own) {
  Rows rows;
  for (std::size_t l = 0; l < own.tokens.size(); ++l)
    rows.push_back({result.model.blocks[l].name, std::to_string(result.tokens[l]),
                    with_spread(own.tokens[l], 1),
                    fmt::format("{:.0f} to {:.0f}", own.tokens[l].least, own.tokens[l].most)});
  return rows;
}
const std::vector<std::string> kOwnHeader{"block", "at most", "mean ± deviation", "range"};

Rows summary_rows(const TokensResult& result, const TokensSummary& summary) {
  Rows rows{{"MACs of one image", mega(result.macs_before), mega(result.macs)},
            {"of the dense model", "1", fmt::format("{:.4f}", ratio(result))}};
  if (summary.own)
    rows.push_back(
        {fmt::format("that {} images take", summary.own->images), "1", with_spread(summary.own->macs, 4)});
  const auto score = [&](const char* name, std::optional<double> Evaluation::*member, double factor) {
    if (!summary.before || !summary.after || !((*summary.before).*member)) return;
    rows.push_back({name, fmt::format("{:.2f}", factor * *((*summary.before).*member)),
                    fmt::format("{:.2f}", factor * ((*summary.after).*member).value_or(0))});
  };
  score("top-1, %", &Evaluation::top1, 100);
  score("top-5, %", &Evaluation::top5, 100);
  if (summary.after && summary.after->argmax_agreement)
    rows.push_back(
        {"same class as dense, %", "100.00", fmt::format("{:.2f}", 100 * *summary.after->argmax_agreement)});
  if (summary.ms_before && summary.ms_after)
    rows.push_back({"one image in the engine, one thread, ms", fmt::format("{:.2f}", *summary.ms_before),
                    fmt::format("{:.2f}", *summary.ms_after)});
  rows.push_back({"file", format_bytes(static_cast<double>(summary.bytes_before)),
                  format_bytes(static_cast<double>(summary.bytes_after))});
  return rows;
}

std::string importance_text(const TokenModel& model) {
  if (model.rows == 0) return "all tokens, their mean";
  return model.rows == 1 ? "the first special token"
                         : fmt::format("the first {} special tokens, their mean", model.rows);
}

void add_comparison(Report& report, const TokensSummary& summary) {
  if (summary.compared.empty()) return;
  Table table{.title = "Methods at equal multiply-accumulates",
              .columns = {{"method", false}, {"of the dense MACs"}, {"top-1, %"}},
              .note = "Held-out images. Budgets are met from below, to within a token."};
  LinePlot plot{.title = "Accuracy against multiply-accumulates",
                .x_label = "share of the dense model",
                .y_label = "top-1 in %"};
  std::map<std::string, Series> series;
  for (const TokenScore& score : summary.compared) {
    table.rows.push_back(
        {score.method, fmt::format("{:.4f}", score.macs_ratio), fmt::format("{:.2f}", 100 * score.top1)});
    Series& one = series[score.method];
    one.name = score.method;
    one.x.push_back(score.macs_ratio);
    one.y.push_back(100 * score.top1);
  }
  for (auto& [name, one] : series) plot.series.push_back(std::move(one));
  report.add(std::move(table));
  report.add(std::move(plot));
}

}  // namespace

const char* token_tail_name(TokenTail tail) {
  return tail == TokenTail::Mean ? "mean" : "specials";
}

const char* token_kind_name(TokenKind kind) {
  return kind == TokenKind::Prune ? "prune" : kind == TokenKind::Merge ? "merge" : "both";
}

const char* token_sizes_name(TokenSizes sizes) {
  return sizes == TokenSizes::Consistent ? "consistent"
         : sizes == TokenSizes::Weighted ? "weighted"
                                         : "faithful";
}

json tokens_plan_json(const TokensPlan& plan) {
  json blocks = json::array(), groups = json::array();
  for (std::size_t l = 0; l < plan.model.blocks.size(); ++l) {
    const AttentionBlock& block = plan.model.blocks[l];
    const auto n = static_cast<double>(plan.cost.tokens);
    const auto& behind = plan.cost.behind[l];
    blocks.push_back({{"name", block.name},
                      {"ops", {"Softmax"}},
                      {"weights", nullptr},
                      {"modcap", nullptr},
                      {"macs", behind[0] + n * (behind[1] + n * behind[2])},
                      {"softmax", block.probabilities},
                      {"tokens", block.residual},
                      {"reducible", l >= plan.limits.first && l < plan.limits.end}});
  }
  return {{"units", blocks},
          {"groups", groups},
          {"tokens", plan.model.tokens},
          {"special_tokens", plan.model.specials},
          {"width", plan.model.width},
          {"heads", plan.model.heads},
          {"tail", token_tail_name(plan.model.tail)},
          {"importance", importance_text(plan.model)},
          {"aside", plan.model.aside},
          {"macs", plan.cost.dense},
          {"reachable", {plan.range.least, plan.range.most}}};
}

std::string tokens_plan_table(const TokensPlan& plan) {
  Rows rows;
  for (std::size_t l = 0; l < plan.model.blocks.size(); ++l) {
    const auto n = static_cast<double>(plan.cost.tokens);
    const auto& behind = plan.cost.behind[l];
    rows.push_back({plan.model.blocks[l].name, plan.model.blocks[l].residual,
                    mega(static_cast<std::int64_t>(behind[0] + n * (behind[1] + n * behind[2]))),
                    l >= plan.limits.first && l < plan.limits.end ? "yes" : "no"});
  }
  return format_table({"block", "tokens", "MACs behind it", "may remove"}, rows) +
         fmt::format(
             "\n{} tokens, {} of them special, {} channels, {} heads; behind the blocks {}\n"
             "importance of a token: the attention of {}\n"
             "{:.4f} to {:.4f} of the dense {} multiply-accumulates can be reached\n",
             plan.model.tokens, plan.model.specials, plan.model.width, plan.model.heads,
             plan.model.tail == TokenTail::Mean ? "the mean over the tokens is taken"
                                                : "special tokens are read",
             importance_text(plan.model), plan.range.least, plan.range.most, mega(plan.cost.dense));
}

json tokens_json(const TokensResult& result, const TokensSummary& summary) {
  json layers = json::array(), compared = json::array();
  for (std::size_t l = 0; l < result.steps.size(); ++l)
    layers.push_back({{"name", result.model.blocks[l].name},
                      {"tokens_in", tokens_in(result, l)},
                      {"prune", result.schedule.prune[l]},
                      {"merge", result.tokens[l]},
                      {"operator", step_name(result, result.steps[l])},
                      {"weight_bits", nullptr},
                      {"activation_bits", nullptr},
                      {"sqnr_db", nullptr},
                      {"bytes", nullptr}});
  for (const TokenScore& score : summary.compared)
    compared.push_back({{"method", score.method}, {"macs_ratio", score.macs_ratio}, {"top1", score.top1}});
  json learnt, survivors = json::array();
  for (std::size_t i = 0; i < summary.fates.size(); ++i)
    survivors.push_back({{"image", summary.pictures[i].title}, {"tokens", summary.fates[i]}});
  if (result.learnt) learnt = {{"prune", result.learnt->prune}, {"merge", result.learnt->merge}};
  return {{"method", summary.method},
          {"prune", result.schedule.prune},
          {"merge", result.schedule.merge},
          {"learnt", learnt},
          {"macs", result.macs},
          {"macs_before", result.macs_before},
          {"macs_ratio", ratio(result)},
          {"tokens", result.model.tokens},
          {"special_tokens", result.model.specials},
          {"importance", importance_text(result.model)},
          {"layers", layers},
          {"per_image", own_json(summary)},
          {"before", score_json(summary.before)},
          {"after", score_json(summary.after)},
          {"latency_ms", {{"before", or_null(summary.ms_before)}, {"after", or_null(summary.ms_after)}}},
          {"compared", compared},
          {"survivors", survivors},
          {"epochs", history_json(result.history)},
          {"fine_tuning", history_json(result.fine_tuning)},
          {"complete", result.complete},
          {"file_bytes", {{"before", summary.bytes_before}, {"after", summary.bytes_after}}},
          {"notes", result.notes},
          {"warnings", result.warnings}};
}

std::string tokens_table(const TokensResult& result) {
  return format_table(kHeader, block_rows(result));
}

std::string tokens_summary_table(const TokensResult& result, const TokensSummary& summary) {
  std::string text = format_table({"", "before", "after"}, summary_rows(result, summary));
  if (summary.own) text += "\n" + format_table(kOwnHeader, own_rows(result, *summary.own));
  return text;
}

Report tokens_report(const TokensResult& result, const TokensSummary& summary) {
  Report report{.title = std::filesystem::path(summary.model).filename().string() + ", fewer tokens",
                .subtitle = fmt::format("lithe tokens, method {}{}", summary.method,
                                        summary.searched.empty() ? "" : ", " + summary.searched)};
  report.facts.push_back({"of the dense multiply-accumulates", fmt::format("{:.4f}", ratio(result))});
  if (summary.after && summary.after->top1)
    report.facts.push_back({"top-1", fmt::format("{:.2f} %", 100 * *summary.after->top1)});
  if (summary.ms_before && summary.ms_after)
    report.facts.push_back({"speed-up in the engine, one image and thread",
                            fmt::format("{:.2f}", *summary.ms_before / *summary.ms_after)});
  Table totals{.title = "Before and after",
               .columns = {{"", false}, {"before"}, {"after"}},
               .rows = summary_rows(result, summary)};
  report.add(std::move(totals));
  Table blocks{
      .title = "Tokens by block",
      .rows = block_rows(result),
      .note =
          "Counts include the special tokens. A block's attention works on the tokens that come in, its MLP "
          "on those that are left."};
  for (const std::string& column : kHeader)
    blocks.columns.push_back({column, column != "block" && column != "operator"});
  report.add(std::move(blocks));
  if (summary.own) {
    Table own{
        .title = "Tokens that images keep",
        .rows = own_rows(result, *summary.own),
        .note = fmt::format(
            "Behind each block, of {} images that run alone. In a batch all have as many as the one that "
            "keeps most.",
            summary.own->images)};
    for (const std::string& column : kOwnHeader) own.columns.push_back({column, column != "block"});
    report.add(std::move(own));
  }
  LinePlot kept{.title = "Kept tokens", .x_label = "block", .y_label = "tokens"};
  Series pruned{.name = "after pruning"}, merged{.name = "after merging"};
  for (std::size_t l = 0; l < result.tokens.size(); ++l) {
    pruned.x.push_back(static_cast<double>(l + 1));
    pruned.y.push_back(static_cast<double>(result.schedule.prune[l]));
    merged.x.push_back(static_cast<double>(l + 1));
    merged.y.push_back(static_cast<double>(result.tokens[l]));
  }
  kept.series = {std::move(pruned), std::move(merged)};
  report.add(std::move(kept));
  add_comparison(report, summary);
  if (!result.fine_tuning.empty()) add_history(report, result.fine_tuning);
  if (!result.history.empty()) {
    const auto curve = [&](const char* name, const char* key, double factor) {
      return epoch_curve(name, result.history, factor, [key](const EpochRecord& record) {
        const auto found = record.extra.find(key);
        return found == record.extra.end() ? std::nullopt : std::optional<double>(found->second);
      });
    };
    add_history(report, result.history);
    add_epoch_plot(report, "Multiply-accumulates during the search", "% of the dense model",
                   {curve("reached", "macs", 100)});
    add_epoch_plot(report, "Multiplier of the budget", "multiplier", {curve("multiplier", "multiplier", 1)});
  }
  if (!summary.pictures.empty()) {
    report.add(Heading{"What survives"});
    report.add(Text{"Grey patches were dropped; patches of one colour are one token."});
    for (const Picture& picture : summary.pictures) report.add(picture);
  }
  if (!result.complete) report.add(Text{"A time budget ended the run before its end."});
  for (const std::string& text : result.warnings) report.add(Text{text});
  for (const std::string& note : result.notes) report.add(Text{note});
  return report;
}

}  // namespace lithe::cli
