#include "lithe/video/deflicker_video.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>
#include <optional>
#include <utility>

#include "lithe/base/clock.h"
#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/base/version.h"
#include "lithe/video/file_identity.h"
#include "lithe/video/io/spool.h"
#include "lithe/video/planes.h"

namespace lithe {
namespace {

Frame resized(const Frame& frame, int height, int width) {
  if (frame.height == height && frame.width == width) return frame;
  const bool smaller = height < frame.height;
  cv::Mat result;
  cv::resize(as_mat(frame), result, {width, height}, 0, 0, smaller ? cv::INTER_AREA : cv::INTER_CUBIC);
  return to_frame(result);
}

void discard_spool(const std::filesystem::path& folder) {
  const std::filesystem::path manifest = folder / "manifest.json";
  if (std::filesystem::exists(manifest))
    Spool(folder, nlohmann::json::parse(read_text_file(manifest), nullptr, false)).remove();
}

/// What a scan learns besides.
struct Timeline {
  VideoScan scan;
  std::vector<FrameTime> times;
  std::vector<std::string> names;  // of pictures
  bool cut = false;                // one of the videos goes on
};

class Job {
 public:
  Job(const DeflickerJob& job, Progress& progress) : job_(job), progress_(progress) {
    const auto style = open(job_.style);
    outcome_.info = style->info();
    height_ = std::max(1, style->info().height / job_.shrink);
    width_ = std::max(1, style->info().width / job_.shrink);
    check_memory();
    if (job_.guide.empty()) return;
    const VideoInfo guide = open(job_.guide)->info();
    if (guide.height == style->info().height && guide.width == style->info().width) return;
    if (!job_.fit)
      fail("the guide {} is {}x{}, {} is {}x{}; add --fit to resize the guide", job_.guide.string(),
           guide.width, guide.height, job_.style.string(), style->info().width, style->info().height);
    outcome_.notes.push_back(fmt::format("the guide was resized from {}x{}", guide.width, guide.height));
  }

  DeflickerOutcome run() {
    scan();
    std::optional<Spool> spool;
    std::unique_ptr<VideoWriter> writer = create_writer();
    if (!job_.spool.empty()) {
      if (!job_.resume) discard_spool(job_.spool);
      spool.emplace(job_.spool, manifest());
      outcome_.resumed_frames = std::min(spool->leading(), outcome_.frames);
    }
    blend([&](std::int64_t number, Frame frame) {
      if (spool) return spool->write(number, frame);
      write(*writer, number, frame);
    });
    if (spool) {
      progress_.start("writing", outcome_.frames);
      for (std::int64_t number = 0; number < outcome_.frames; ++number) {
        write(*writer, number, spool->read(number));
        progress_.advance();
      }
      progress_.finish();
    }
    writer->finish();
    outcome_.encoder = writer->encoder();
    outcome_.pixel_format = writer->pixel_format();
    outcome_.notes.insert(outcome_.notes.end(), writer->notes().begin(), writer->notes().end());
    if (spool) spool->remove();
    return std::move(outcome_);
  }

 private:
  void check_memory() const {
    const std::int64_t needed = memory_needed(job_.options, height_, width_);
    if (job_.memory_bytes == 0 || needed <= job_.memory_bytes) return;
    DeflickerOptions least = job_.options;
    least.threads = 1;
    while (least.window > 0 && memory_needed(least, height_, width_) > job_.memory_bytes) --least.window;
    fail("{}x{} with --window {} needs {} MB, which is more than --memory; {}", width_, height_,
         job_.options.window, needed >> 20,
         memory_needed(least, height_, width_) <= job_.memory_bytes
             ? fmt::format("--window {} --threads 1 would fit", least.window)
             : "no window would fit");
  }

  std::unique_ptr<VideoReader> open(const std::filesystem::path& path) const {
    return VideoReader::open(path, job_.read);
  }

  bool read(VideoReader& reader, Frame& frame) const {
    if (!reader.read(frame)) return false;
    frame = resized(frame, height_, width_);
    return true;
  }

  /// The next frames of both videos; false where one ends.
  bool read(VideoReader& style_reader, VideoReader* guide_reader, Frame& style, Frame& guide) const {
    if (!read(style_reader, style)) return false;
    if (guide_reader) return read(*guide_reader, guide);
    guide = own_guide(style);
    return true;
  }

  void scan() {
    const auto style_reader = open(job_.style);
    const auto guide_reader = job_.guide.empty() ? nullptr : open(job_.guide);
    VideoScanner scanner({.find_scenes = job_.options.find_scenes,
                          .even_colours = job_.options.even_colours,
                          .blend_window = job_.options.window});
    progress_.start("scanning", expected_frames());
    Frame style, guide;
    while (read(*style_reader, guide_reader.get(), style, guide)) {
      scanner.add(guide, style);
      timeline_.times.push_back(style_reader->time());
      timeline_.names.push_back(style_reader->name());
      progress_.advance();
    }
    progress_.finish();
    timeline_.scan = scanner.finish();
    outcome_.frames = timeline_.scan.frames;
    outcome_.scenes = timeline_.scan.scenes;
    if (outcome_.frames == 0) fail("{} has no frames", job_.style.string());
    if (guide_reader) check_lengths(*style_reader, *guide_reader);
  }

  void check_lengths(VideoReader& style, VideoReader& guide) {
    const std::int64_t style_frames = style.number() + 1 + rest_of(style);
    const std::int64_t guide_frames = guide.number() + 1 + rest_of(guide);
    if (style_frames == guide_frames) return;
    if (!job_.fit)
      fail("{} has {} frames, the guide {} has {}; add --fit to leave out the rest of the longer one",
           job_.style.string(), style_frames, job_.guide.string(), guide_frames);
    timeline_.cut = style_frames > guide_frames;
    outcome_.notes.push_back(fmt::format("{} frames, of {} in the video and {} in the guide", outcome_.frames,
                                         style_frames, guide_frames));
  }

  static std::int64_t rest_of(VideoReader& reader) {
    std::int64_t frames = 0;
    while (reader.skip()) ++frames;
    return frames;
  }

  std::int64_t expected_frames() const {
    const VideoInfo& info = outcome_.info;
    auto frames =
        info.frames >= 0 ? info.frames : static_cast<std::int64_t>(info.seconds * info.rate.value());
    return job_.read.most >= 0 ? std::min(frames, job_.read.most) : frames;
  }

  std::unique_ptr<VideoWriter> create_writer() const {
    VideoInfo like = outcome_.info;
    like.height = height_;
    like.width = width_;
    const auto reader = open(job_.style);
    std::optional<CopiedFile> copied = reader->copied_file();
    if (copied && timeline_.cut) copied->cut_end = true;
    return VideoWriter::create(job_.output, job_.write, like, copied);
  }

  void write(VideoWriter& writer, std::int64_t number, const Frame& frame) const {
    const auto at = static_cast<std::size_t>(number);
    writer.write(frame, timeline_.times[at], timeline_.names[at]);
  }

  /// What the spooled frames are the result of; the number of threads changes nothing.
  nlohmann::json manifest() const {
    const DeflickerOptions& o = job_.options;
    return {{"version", kVersion},
            {"style", file_identity(job_.style)},
            {"guide", job_.guide.empty() ? "" : file_identity(job_.guide)},
            {"frames", outcome_.frames},
            {"size", {height_, width_}},
            {"start", job_.read.start},
            {"mode", static_cast<int>(o.mode)},
            {"window", o.window},
            {"match",
             {o.match.patch, o.match.iterations, o.match.guide_weight, o.match.random_steps,
              o.match.random_radius, static_cast<int>(o.match.start), o.match.exact_upsample, o.match.seed}},
            {"accurate_batch", o.accurate_batch},
            {"beyond", {o.even_colours, o.fractions, o.weigh, o.restore_detail, o.find_scenes, o.warm_start}},
            {"strength", o.strength}};
  }

  void blend(const WriteFrame& write) {
    const auto style_reader = open(job_.style);
    const auto guide_reader = job_.guide.empty() ? nullptr : open(job_.guide);
    // Frames whose results are still to come, for on_frame.
    std::deque<std::pair<Frame, Frame>> waiting;
    std::int64_t first_waiting = 0;
    Frame pending_guide;
    const ReadFrame read_style = [&](Frame& frame) {
      if (!read(*style_reader, guide_reader.get(), frame, pending_guide)) return false;
      if (job_.on_frame) waiting.emplace_back(pending_guide, frame);
      return true;
    };
    const ReadFrame read_guide = [&](Frame& frame) {  // always right after the other
      frame = std::move(pending_guide);
      return true;
    };
    const std::vector<std::int64_t>& scenes = outcome_.scenes;
    for (std::size_t i = 0; i < scenes.size(); ++i)
      outcome_.pairs +=
          pair_count(job_.options, (i + 1 < scenes.size() ? scenes[i + 1] : outcome_.frames) - scenes[i]);
    progress_.start("deflickering", outcome_.frames);
    progress_.skip(outcome_.resumed_frames);
    Progress pairs;  // stops between pairs on Ctrl-C, which frames would be slow to do
    const auto start = Clock::now();
    deflicker(
        read_style, read_guide, timeline_.scan, job_.options,
        [&](std::int64_t number, Frame frame) {
          if (job_.on_frame) {
            for (; first_waiting < number; ++first_waiting) waiting.pop_front();
            job_.on_frame(number, waiting.front().first, waiting.front().second, frame);
          }
          write(number, std::move(frame));
          const auto made = static_cast<double>(number + 1 - outcome_.resumed_frames);
          progress_.advance(1, fmt::format("{:.2f} frames/s", made / std::max(seconds_since(start), 1e-3)));
        },
        pairs, outcome_.resumed_frames);
    progress_.finish();
    outcome_.seconds = seconds_since(start);
  }

  const DeflickerJob& job_;
  Progress& progress_;
  int height_ = 0, width_ = 0;
  Timeline timeline_;
  DeflickerOutcome outcome_;
};

}  // namespace

Frame own_guide(const Frame& frame) {
  const double sigma = std::max(1.0, std::min(frame.height, frame.width) / 200.0);
  cv::Mat smooth;
  cv::GaussianBlur(to_float(frame), smooth, {}, sigma, sigma, cv::BORDER_REPLICATE);
  return to_frame(smooth);
}

DeflickerOutcome deflicker_video(const DeflickerJob& job, Progress& progress) {
  check(job.options);
  return Job(job, progress).run();
}

}  // namespace lithe
