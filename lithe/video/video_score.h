// How calm a video is, and how near to a reference: frame by frame, two frames being held at a time.
//
// Every figure is also given as a curve. The warp error alone is won by blur, so it is to be read together
// with the detail, and with PSNR where there is a reference.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "lithe/video/flow.h"
#include "lithe/video/frame.h"

namespace lithe {

/// What is shown of one frame. All pictures have one size.
struct ScoredFrame {
  const Frame& frame;
  const Frame* guide = nullptr;      // flow is estimated on it; null: on `frame` itself
  const Frame* reference = nullptr;  // what the frame ought to be
  const Frame* input = nullptr;      // what the frame was made from, for `detail` without a reference
  const Flow* flow = nullptr;        // from the previous frame to this one; null: estimated
};

enum class DetailOf { Nothing, Reference, Input };

struct VideoScore {
  std::int64_t frames = 0;
  /// Mean over pairs of neighbours of the mean of (W(O_{t+1}) - O_t)^2 over the channels and the pixels that
  /// both frames show, pixels being 0..1 and W warping to frame t, linearly: Lai et al., "Learning Blind
  /// Video Temporal Consistency", ECCV 2018, with neighbours only. Absent where no pair counts.
  std::optional<double> warp_error;
  /// Mean over pairs of `flicker_curve`, in grey levels of 255; 0 is perfectly calm.
  std::optional<double> flicker;
  /// Mean |Laplacian| over pixels and channels, in grey levels of 255.
  double sharpness = 0;
  /// Sharpness relative to that of the reference, or else of the input: 1 is ideal, below is blur and above
  /// is noise. Absent where that has none.
  std::optional<double> detail;
  DetailOf detail_of = DetailOf::Nothing;
  /// To the reference. PSNR comes from the mean square error over all frames, at most 100 dB. SSIM (Wang et
  /// al. 2004) is the mean over frames and channels, window 11 with sigma 1.5, K = 0.01 and 0.03, where the
  /// window is inside the frame: -1..1.
  std::optional<double> psnr, ssim;
  /// Mean over pixels and pairs of |du| + |dv|, the difference of the estimated flows of video and
  /// reference, in pixels (Chu et al. 2020); only if asked for.
  std::optional<double> flow_difference;

  // A value a frame, or a pair (t, t + 1); NaN for pairs that do not count, as at cuts.
  std::vector<double> warp_errors;
  /// |mean of W(Y_{t+1}) - Y_t|, which sees the whole frame growing brighter or darker, plus the mean of
  /// |H(W(Y_{t+1}) - Y_t)|, which sees detail coming and going; Y = (R + G + B) / 3 and H what a Gaussian of
  /// sigma 2 takes away.
  std::vector<double> flicker_curve;
  std::vector<double> sharpness_curve, psnrs, ssims, flow_differences;
};

struct ScoreOptions {
  FlowPreset preset = FlowPreset::Medium;
  bool flow_difference = false;
  /// Pairs where less of the frame than this is seen in both do not count.
  double least_valid = 0.1;
};

class VideoScorer {
 public:
  explicit VideoScorer(const ScoreOptions& options = {});
  ~VideoScorer();
  VideoScorer(VideoScorer&&) noexcept;
  VideoScorer& operator=(VideoScorer&&) noexcept;

  /// The next frame. Throws Error(Input) if sizes differ, the frame is smaller than 16 pixels a side, or a
  /// reference or input comes with some frames only.
  void add(const ScoredFrame& frame);
  /// Of what was shown so far; throws Error(Input) if that is nothing.
  VideoScore finish() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Mean square error with pixels 0..1, over channels and pixels.
double mean_square_error(const Frame& a, const Frame& b);
/// 10 log10(1 / error), at most 100.
double psnr_of(double mean_square_error);
/// As VideoScore::ssim, of one frame of at least 11x11 pixels.
double ssim(const Frame& a, const Frame& b);
/// As VideoScore::sharpness, of one frame.
double sharpness(const Frame& frame);

}  // namespace lithe
