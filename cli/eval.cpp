// `lithe eval`: scores a model on data, or runs it on arrays.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>

#include "cli/data_flags.h"
#include "cli/json.h"
#include "cli/overwrite.h"
#include "cli/score_json.h"
#include "cli/torch_setup.h"
#include "cli/validators.h"
#include "cli/verbs.h"
#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/data/npz.h"
#include "lithe/data/usable_batch.h"
#include "lithe/engine/onnxruntime.h"
#include "lithe/graph/onnx.h"
#include "lithe/metrics/evaluate.h"
#include "lithe/metrics/tiled.h"
#include "lithe/report/report.h"

namespace lithe::cli {
namespace {

struct EvalFlags {
  Invocation call{"eval"};
  PreprocessFlags preprocess;
  std::string data, against, inputs, outputs, backend = "engine", output;
  std::int64_t batch = 32, shave = -1, tile = 0;
};

/// A model and the way to run it.
struct Runner {
  Graph graph;
  RunBatch run;
};

Runner open_runner(const std::string& model, Graph graph, const std::string& backend, at::Device device,
                   int threads) {
  Runner out{std::move(graph), {}};
  if (backend == "ort") {
    const auto session = std::make_shared<OnnxRuntime>(model, OnnxRuntimeOptions{.threads = threads});
    out.run = [session](const Feeds& feeds) { return session->run(feeds); };
  } else {
    const auto executor = std::make_shared<Executor>(out.graph, ExecutorOptions{.device = device});
    out.run = [executor, device](const Feeds& feeds) {
      Feeds moved;
      for (const auto& [name, tensor] : feeds) moved[name] = tensor.to(device);
      Feeds results = executor->run(moved);
      // Waits for the device, so that the time is that of the whole run.
      for (auto& [name, tensor] : results) tensor = tensor.to(at::kCPU);
      return results;
    };
  }
  return out;
}

/// Runs images tile by tile, or throws the reason why the model does not allow it. The output is the one of
/// that name or, in a model of another maker, the only one.
RunBatch in_tiles(const Runner& runner, const std::string& model, std::int64_t side,
                  const std::string& output) {
  try {
    const std::string name = runner.graph.outputs.size() == 1 ? "" : output;
    return tiled(runner.graph, runner.run, find_tiling(runner.graph, name), side, name);
  } catch (const Error& error) {
    throw Error(error.kind(), fmt::format("--tile: {}: {}", model, error.what()));
  }
}

/// The other model under the names of the first, so that models of other makers can be compared.
RunBatch with_names_of(const Graph& graph, const Runner& other, const std::string& name) {
  const auto ours = graph.required_inputs(), theirs = other.graph.required_inputs();
  const bool rename_input = ours.size() == 1 && theirs.size() == 1;
  const bool rename_output = graph.outputs.size() == 1 && other.graph.outputs.size() == 1;
  return [=, run = other.run, from = rename_input ? theirs[0]->name : "",
          output = rename_output ? graph.outputs[0].name : ""](const Feeds& feeds) {
    Feeds results;
    try {
      results = run(rename_input ? Feeds{{from, feeds.begin()->second}} : feeds);
    } catch (const Error& error) {  // which of the two models it is
      throw Error(error.kind(), fmt::format("{}: {}", name, error.what()));
    }
    return rename_output ? Feeds{{output, results.begin()->second}} : results;
  };
}

json result_json(const Evaluation& e, const EvalFlags& flags, const std::vector<std::string>& notes) {
  json out{{"top1", or_null(e.top1)},
           {"top5", or_null(e.top5)},
           {"loss", or_null(e.loss)},
           {"psnr_y", or_null(e.psnr_y)},
           {"ssim_y", or_null(e.ssim_y)},
           {"psnr_rgb", or_null(e.psnr_rgb)},
           {"bicubic_psnr_y", or_null(e.bicubic_psnr_y)},
           {"bicubic_ssim_y", or_null(e.bicubic_ssim_y)},
           {"n", e.n},
           {"n_exact", e.n_exact},
           {"throughput", e.throughput},
           {"backend", flags.backend},
           {"batch", e.batch},
           {"model_seconds", e.seconds},
           {"notes", notes}};
  if (!e.images.empty()) {
    json images = json::array();
    for (const ImageScore& image : e.images)
      images.push_back({{"name", image.name},
                        {"psnr_y", or_null(image.psnr_y)},
                        {"ssim_y", or_null(image.ssim_y)},
                        {"psnr_rgb", or_null(image.psnr_rgb)},
                        {"bicubic_psnr_y", or_null(image.bicubic_psnr_y)},
                        {"bicubic_ssim_y", or_null(image.bicubic_ssim_y)}});
    out["images"] = images;
  }
  if (!flags.against.empty())
    out["against"] = {{"model", flags.against},
                      {"argmax_agreement", or_null(e.argmax_agreement)},
                      {"max_abs", or_null(e.max_abs)},
                      {"sqnr_db", or_null(e.sqnr_db)}};
  return out;
}

/// What people read: only what applies.
std::vector<Fact> facts_of(const Evaluation& e) {
  std::vector<Fact> out;
  const auto add = [&](const char* name, const std::optional<double>& value, double factor, int digits,
                       const char* unit) {
    if (value)
      out.push_back(
          {name, std::isfinite(*value) ? fmt::format("{:.{}f}{}", *value * factor, digits, unit) : "exact"});
  };
  add("top-1", e.top1, 100, 2, " %");
  add("top-5", e.top5, 100, 2, " %");
  add("loss", e.loss, 1, 4, "");
  add("PSNR (Y)", e.psnr_y, 1, 2, " dB");
  add("SSIM (Y)", e.ssim_y, 1, 4, "");
  add("PSNR (RGB)", e.psnr_rgb, 1, 2, " dB");
  add("PSNR (Y) of bicubic", e.bicubic_psnr_y, 1, 2, " dB");
  add("SSIM (Y) of bicubic", e.bicubic_ssim_y, 1, 4, "");
  add("same class as the other model", e.argmax_agreement, 100, 2, " %");
  add("largest difference to the other model", e.max_abs, 1, 5, "");
  add("SQNR against the other model", e.sqnr_db, 1, 2, " dB");
  out.push_back({"samples", std::to_string(e.n)});
  out.push_back({"throughput", fmt::format("{:.1f} a second", e.throughput)});
  return out;
}

/// A row an image, and their means; the columns of bicubic only where images were enlarged.
std::vector<std::vector<std::string>> image_rows(const Evaluation& e) {
  const auto number = [](const std::optional<double>& value, int digits) {
    return !value                  ? std::string("-")
           : std::isfinite(*value) ? fmt::format("{:.{}f}", *value, digits)
                                   : "exact";
  };
  std::vector<std::vector<std::string>> rows;
  const auto add = [&](const std::string& name, const std::optional<double>& psnr,
                       const std::optional<double>& ssim, const std::optional<double>& bicubic_psnr,
                       const std::optional<double>& bicubic_ssim) {
    rows.push_back({name, number(psnr, 2), number(ssim, 4)});
    if (!e.images.front().bicubic_psnr_y) return;
    rows.back().push_back(number(bicubic_psnr, 2));
    rows.back().push_back(number(bicubic_ssim, 4));
  };
  for (const ImageScore& image : e.images)
    add(std::filesystem::path(image.name).filename().string(), image.psnr_y, image.ssim_y,
        image.bicubic_psnr_y, image.bicubic_ssim_y);
  add("mean", e.psnr_y, e.ssim_y, e.bicubic_psnr_y, e.bicubic_ssim_y);
  return rows;
}

std::vector<std::string> image_columns(const Evaluation& e) {
  std::vector<std::string> columns{"image", "PSNR (Y)", "SSIM (Y)"};
  if (e.images.front().bicubic_psnr_y)
    columns.insert(columns.end(), {"bicubic PSNR (Y)", "bicubic SSIM (Y)"});
  return columns;
}

/// Runs all rows of the arrays at once, as they stand.
Evaluation run_arrays(const Runner& runner, const EvalFlags& flags, std::vector<std::string>& files) {
  const Feeds feeds = read_feeds(runner.graph, flags.inputs);
  const at::NoGradGuard no_grad;
  const auto start = std::chrono::steady_clock::now();
  const Feeds results = runner.run(feeds);
  Evaluation out;
  out.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const at::Tensor& first = feeds.begin()->second;
  out.n = out.batch = first.dim() > 0 ? first.size(0) : 1;
  out.throughput = static_cast<double>(out.n) / out.seconds;
  if (!flags.outputs.empty()) {
    TensorMap arrays;
    for (const ValueInfo& output : runner.graph.outputs) arrays[output.name] = results.at(output.name);
    write_npz(arrays, flags.outputs);
    files.push_back(flags.outputs);
  }
  return out;
}

void run_eval(EvalFlags& flags) {
  Invocation& call = flags.call;
  const std::string& model = call.options.model;
  if (flags.data.empty() == flags.inputs.empty()) fail("eval needs either --data or --inputs");
  if (!flags.outputs.empty() && flags.inputs.empty()) fail("--outputs needs --inputs");
  if (!flags.against.empty() && flags.data.empty()) fail("--against needs --data");
  if (flags.tile > 0 && flags.data.empty()) fail("--tile needs --data");
  check_overwriting(call, {{"--data", flags.data}, {"--inputs", flags.inputs}, {"--against", flags.against}},
                    {{"--outputs", flags.outputs}}, false);
  const at::Device device = set_up_torch(call);
  Graph graph = read_onnx(model);
  const Preprocess preprocess = preprocess_for(model, graph, flags.preprocess);
  const DatasetPtr data = flags.data.empty() ? nullptr : open_dataset(flags.data, preprocess);
  std::vector<std::string> notes;
  if (data) {
    if (const std::string hint = unused_labels(flags.data, *data); !hint.empty()) call.warn(hint);
    if (std::string note = assumed_preprocess(model, graph, flags.preprocess, flags.data); !note.empty())
      notes.push_back(std::move(note));
  }
  const Runner runner = open_runner(model, std::move(graph), flags.backend, device, call.threads());

  std::vector<std::string> files;
  Evaluation result;
  if (data) {
    RunBatch other, run = runner.run;
    if (flags.tile > 0) {
      if (preprocess.layout != ImageLayout::Nchw) fail("--tile is for models of layout nchw");
      run = in_tiles(runner, model, flags.tile, flags.output);
    }
    if (!flags.against.empty()) {
      Runner against =
          open_runner(flags.against, read_onnx(flags.against), flags.backend, device, call.threads());
      if (flags.tile > 0) against.run = in_tiles(against, flags.against, flags.tile, flags.output);
      other = with_names_of(runner.graph, against, flags.against);
    }
    result = evaluate(runner.graph, run, data,
                      {.batch = flags.batch,
                       .threads = call.threads(),
                       .limit = call.options.limit > 0 ? call.options.limit : -1,
                       .seed = call.options.seed,
                       .output = flags.output,
                       .preprocess = preprocess,
                       .shave = flags.shave,
                       .progress = &call.progress()},
                      other);
    for (std::string& note : notes_on_scores(result)) notes.push_back(std::move(note));
    if (result.batch < flags.batch && fixed_batch(runner.graph) == 0) notes.emplace_back(kSingleSamplesOnly);
  } else {
    result = run_arrays(runner, flags, files);
  }

  const std::vector<Fact> facts = facts_of(result);
  const json object = result_json(result, flags, notes);
  if (!call.options.report.empty()) {
    Report report{.title = std::filesystem::path(model).filename().string(),
                  .subtitle = "lithe eval on " + (data ? flags.data : flags.inputs),
                  .facts = facts,
                  .items = {}};
    Table table{.title = "All numbers", .columns = {{"measure", false}, {"value"}}, .rows = {}, .note = ""};
    for (const Fact& fact : facts) table.rows.push_back({fact.name, fact.value});
    report.add(std::move(table));
    if (!result.images.empty()) {
      Table images{.title = "Images", .rows = image_rows(result)};
      for (const std::string& name : image_columns(result)) images.columns.push_back({name, name != "image"});
      report.add(std::move(images));
    }
    for (const std::string& note : notes) report.add(Text{note});
    const auto written = write_report(report, call.envelope(object, files), call.options.report);
    files.insert(files.end(), written.begin(), written.end());
  }
  if (!result.images.empty()) call.say("{}", format_table(image_columns(result), image_rows(result)));
  std::vector<std::vector<std::string>> rows;
  for (const Fact& fact : facts) rows.push_back({fact.name, fact.value});
  call.say("{}", format_table({"measure", "value"}, rows));
  for (const std::string& note : notes) call.say("note: {}", note);
  call.finish(object, files);
}

}  // namespace

void add_eval(CLI::App& app) {
  auto flags = std::make_shared<EvalFlags>();
  CLI::App* verb = app.add_subcommand("eval", summary_of("eval"));
  flags->call.add_flags(*verb, {Flag::Seed, Flag::Threads, Flag::Device, Flag::Limit});
  verb->add_option("--data", flags->data, kDataHelp);
  verb->add_option("--batch", flags->batch, "samples in one run")
      ->check(in_range(1, 1 << 20))
      ->capture_default_str();
  verb->add_option("--against", flags->against, "another model, run on the same data and compared with");
  verb->add_option("--inputs", flags->inputs, "a .npz file with one array an input, instead of --data");
  verb->add_option("--outputs", flags->outputs, "the .npz file that the outputs are written to");
  verb->add_option("--output-name", flags->output, "the output that is scored (default: the first)");
  verb->add_option("--backend", flags->backend, "engine (Lithe on LibTorch) or ort (stock ONNX Runtime)")
      ->check(CLI::IsMember({"engine", "ort"}))
      ->capture_default_str();
  verb->add_option("--shave", flags->shave,
                   "border in pixels that PSNR and SSIM leave out (default: the scale factor of the model)")
      ->check(in_range(0, 1024));
  verb->add_option("--tile", flags->tile,
                   "run images in tiles of so many pixels of the input, for bounded memory (0: whole)")
      ->check(in_range(0, 1 << 16))
      ->capture_default_str();
  add_preprocess_flags(*verb, flags->preprocess);
  verb->callback([flags] { run_eval(*flags); });
}

}  // namespace lithe::cli
