// `lithe multibit eval`: what every bit-width of a model scores and costs.
#include <filesystem>

#include "cli/data_flags.h"
#include "cli/multibit.h"
#include "cli/multibit_report.h"
#include "cli/torch_setup.h"
#include "cli/validators.h"
#include "lithe/base/error.h"
#include "lithe/graph/onnx.h"
#include "lithe/multibit/session.h"

namespace lithe::cli {
namespace {

struct MultibitEvalFlags {
  Invocation call{"multibit eval"};
  PreprocessFlags preprocess;
  std::string data, bits, backend = "engine";
  std::int64_t batch = 32, repeats = 20;
};

/// Scores through the integer session, image by image.
std::vector<Evaluation> score_integer(const Graph& graph, MultibitSession& session,
                                      const std::vector<int>& bits, const DatasetPtr& data,
                                      const EvaluateOptions& options) {
  std::vector<Evaluation> scores;
  for (const int one : bits) {
    session.set_bits(one);
    const Graph part = extract_bits(graph, one);
    scores.push_back(evaluate(
        part,
        [&](const Feeds& feeds) {
          const at::Tensor x = feeds.begin()->second.contiguous();
          const std::int64_t n = x.size(0);
          const at::Tensor y = at::empty({n, session.classes()});
          for (std::int64_t i = 0; i < n; ++i)
            session.run(x.data_ptr<float>() + i * x.stride(0), y.data_ptr<float>() + i * session.classes());
          return Feeds{{part.outputs[0].name, y}};
        },
        data, options));
  }
  return scores;
}

void run_eval(MultibitEvalFlags& flags) {
  Invocation& call = flags.call;
  call.check_outputs();
  const at::Device device = set_up_torch(call);
  const Graph graph = read_onnx(call.options.model);
  const MultibitInfo info = multibit_info(graph);
  std::vector<int> bits = info.bits;
  if (!flags.bits.empty()) bits = parse_bits(flags.bits);
  for (const int one : bits) info.path(one);  // throws what lists those there are
  std::vector<std::string> notes;
  std::optional<MultibitSession> session = integer_session(graph, notes);
  if (flags.backend == "integer" && !session) fail("{}", notes.back());
  std::vector<BitRow> rows = bit_rows(graph, bits);
  if (!flags.data.empty()) {
    const Preprocess preprocess = preprocess_for(call.options.model, graph, flags.preprocess);
    const DatasetPtr data = open_dataset(flags.data, preprocess);
    if (const std::string hint = unused_labels(flags.data, *data); !hint.empty()) call.warn(hint);
    if (std::string note = assumed_preprocess(call.options.model, graph, flags.preprocess, flags.data);
        !note.empty())
      notes.push_back(std::move(note));
    const EvaluateOptions how{.batch = flags.batch,
                              .threads = call.threads(),
                              .limit = call.options.limit > 0 ? call.options.limit : -1,
                              .seed = call.options.seed,
                              .preprocess = preprocess,
                              .progress = &call.progress()};
    const auto scores = flags.backend == "integer" ? score_integer(graph, *session, bits, data, how)
                                                   : evaluate_bits(graph, bits, data, how, device);
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i].score = scores[i];
  }
  if (session)
    for (BitRow& row : rows) {
      session->set_bits(row.path.bits);
      row.integer_ms = 1e3 * session->seconds_an_image(flags.repeats);
    }
  const BitStorage storage = bit_storage(graph);
  const json object{{"method", info.method},
                    {"backend", flags.backend},
                    {"target", session ? json(two_bit_target_name(session->target())) : json()},
                    {"bit_widths", bits_json(rows)},
                    {"storage", storage_json(storage)},
                    {"notes", notes}};
  std::vector<std::string> files;
  if (!call.options.report.empty()) {
    Report report{
        .title = std::filesystem::path(call.options.model).filename().string(),
        .subtitle = "lithe multibit eval" + (flags.data.empty() ? std::string() : " on " + flags.data)};
    add_bits(report, rows, storage, info);
    for (const std::string& note : notes) report.add(Text{note});
    files = write_report(report, call.envelope(object, files), call.options.report);
  }
  call.say("{}", bits_table(rows));
  call.say("weights of all bit-widths: {} (float32: {})", format_bytes(static_cast<double>(storage.total())),
           format_bytes(static_cast<double>(storage.as_float)));
  if (info.method == "mbquant") call.say("note: {}", time_follows_macs(info.bits));
  for (const std::string& note : notes) call.say("note: {}", note);
  for (const std::string& file : files) call.say("wrote {}", file);
  call.finish(object, files);
}

}  // namespace

void add_multibit_eval(CLI::App& parent) {
  auto flags = std::make_shared<MultibitEvalFlags>();
  CLI::App* verb = parent.add_subcommand("eval", "accuracy, cost and time of every bit-width of a model");
  flags->call.add_flags(*verb, {Flag::Seed, Flag::Threads, Flag::Device, Flag::Limit});
  verb->add_option("--data", flags->data, std::string("labelled data: ") + kDataHelp);
  verb->add_option("--bits", flags->bits, "bit-widths to look at, for example 4 or 2-8 (default: all)");
  verb->add_option("--batch", flags->batch, "samples in one run")
      ->check(in_range(1, 1 << 20))
      ->capture_default_str();
  verb->add_option("--backend", flags->backend,
                   "engine (the float graph) or integer (whole numbers, as deployed, on one thread whatever "
                   "--threads says; mbquant alone)")
      ->check(CLI::IsMember({"engine", "integer"}))
      ->capture_default_str();
  verb->add_option("--repeats", flags->repeats, "runs of an image to take the time of, on one thread")
      ->check(in_range(1, 100000))
      ->capture_default_str();
  add_preprocess_flags(*verb, flags->preprocess);
  verb->callback([flags] { run_eval(*flags); });
}

}  // namespace lithe::cli
