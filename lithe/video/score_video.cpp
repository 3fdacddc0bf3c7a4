#include "lithe/video/score_video.h"

#include <memory>
#include <vector>

#include "lithe/base/error.h"
#include "lithe/video/flow.h"

namespace lithe {
namespace {

/// A video that is read along with the measured one; none if the path is empty.
class Companion {
 public:
  Companion(const std::filesystem::path& path, const char* role, const ReadOptions& options,
            const std::filesystem::path& video, const VideoInfo& info)
      : path_(path), role_(role) {
    if (path.empty()) return;
    reader_ = VideoReader::open(path, options);
    if (reader_->info().height != info.height || reader_->info().width != info.width)
      fail("{} is {}x{}, the {} {} is {}x{}; give them of one size", video.string(), info.width, info.height,
           role_, path_.string(), reader_->info().width, reader_->info().height);
  }

  void read(std::int64_t number, const std::filesystem::path& video) {
    if (reader_ && !reader_->read(frame_))
      fail("{} has a frame {}, the {} {} has not; cut the longer one, or give --limit", video.string(),
           number, role_, path_.string());
  }

  void expect_end(const std::filesystem::path& video, std::int64_t frames) {
    if (reader_ && reader_->skip())
      fail("the {} {} goes on after the {} frames of {}; cut it, or give --limit", role_, path_.string(),
           frames, video.string());
  }

  const Frame* frame() const { return reader_ ? &frame_ : nullptr; }

 private:
  std::filesystem::path path_;
  const char* role_;
  std::unique_ptr<VideoReader> reader_;
  Frame frame_;
};

/// The flow from each frame to the next: read, or estimated once for all that is measured on it.
class Motion {
 public:
  Motion(const std::filesystem::path& folder, FlowPreset preset) : folder_(folder), preset_(preset) {
    if (!folder.empty()) files_ = flow_files(folder);
  }

  /// To frame `number`, whose picture of the scene is `seen`; nothing for the first.
  const Flow* to(std::int64_t number, const Frame& seen, bool first) {
    if (!first && !folder_.empty()) {
      const auto index = static_cast<std::size_t>(number - 1);
      if (index >= files_.size())
        fail("{} has {} files of flow, and none to frame {}; there is one from each frame to the next",
             folder_.string(), files_.size(), number);
      flow_ = read_flow(files_[index]);
      if (flow_.displacement.rows != seen.height || flow_.displacement.cols != seen.width)
        fail("{} is {}x{}, the video {}x{}", files_[index].string(), flow_.displacement.cols,
             flow_.displacement.rows, seen.width, seen.height);
    } else if (!first) {
      flow_ = checked_flow(last_, seen, preset_);
    }
    if (folder_.empty()) last_ = seen;
    return first ? nullptr : &flow_;
  }

 private:
  std::filesystem::path folder_;
  FlowPreset preset_;
  std::vector<std::filesystem::path> files_;
  Frame last_;
  Flow flow_;
};

}  // namespace

VideoComparison score_video(const ScoreVideoJob& job, Progress& progress) {
  const auto reader = VideoReader::open(job.video, job.read);
  const VideoInfo& info = reader->info();
  Companion against(job.against, "other video", job.read, job.video, info);
  Companion guide(job.guide, "guide", job.read, job.video, info);
  Companion reference(job.reference, "reference", job.read, job.video, info);
  Motion motion(job.flows, job.options.preset);
  VideoScorer scorer(job.options), other(job.options);
  VideoComparison result;
  std::int64_t frames = 0;
  progress.start("measuring", job.read.most >= 0 ? job.read.most : info.frames);
  for (Frame frame; reader->read(frame); ++frames) {
    const std::int64_t number = reader->number();
    if (frames == 0) result.first = number;
    for (Companion* companion : {&against, &guide, &reference}) companion->read(number, job.video);
    const Frame* seen = guide.frame() ? guide.frame() : reference.frame();
    const Flow* flow = motion.to(number, seen ? *seen : frame, frames == 0);
    scorer.add({.frame = frame, .reference = reference.frame(), .input = against.frame(), .flow = flow});
    if (against.frame()) other.add({.frame = *against.frame(), .reference = reference.frame(), .flow = flow});
    progress.advance();
  }
  progress.finish();
  if (frames == 0) fail("{} has no frames to measure", job.video.string());
  if (job.read.most < 0)
    for (Companion* companion : {&against, &guide, &reference}) companion->expect_end(job.video, frames);
  result.score = scorer.finish();
  if (!job.against.empty()) result.against = other.finish();
  return result;
}

}  // namespace lithe
