// Filters of FFmpeg on frames in memory, for comparison.
#pragma once

extern "C" {
#include <libavfilter/avfilter.h>
#include <libavfilter/buffersink.h>
#include <libavfilter/buffersrc.h>
#include <libavutil/frame.h>
#include <libavutil/opt.h>
}
#include <fmt/format.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lithe/base/error.h"
#include "lithe/video/frame.h"

namespace lithe::bench {

inline void require_av(int code, const char* what) {
  if (code < 0) fail_system("FFmpeg: {} failed with {}", what, code);
}

/// Frames through `filter` as the program ffmpeg would do, as 8-bit YUV 4:4:4 with the filter on one thread.
/// As many frames come back as went in.
inline std::vector<Frame> filtered(const std::vector<Frame>& frames, const std::string& filter) {
  const auto free_graph = [](AVFilterGraph* graph) { avfilter_graph_free(&graph); };
  const auto free_frame = [](AVFrame* frame) { av_frame_free(&frame); };
  const std::unique_ptr<AVFilterGraph, decltype(free_graph)> graph(avfilter_graph_alloc(), free_graph);
  const std::unique_ptr<AVFrame, decltype(free_frame)> frame(av_frame_alloc(), free_frame);
  if (!graph || !frame) fail_system("FFmpeg: out of memory");
  graph->nb_threads = 1;
  const int height = frames.at(0).height, width = frames.at(0).width;
  AVFilterContext *source = nullptr, *sink = nullptr;
  const std::string source_options =
      fmt::format("video_size={}x{}:pix_fmt=rgb24:time_base=1/25:pixel_aspect=1/1", width, height);
  require_av(avfilter_graph_create_filter(&source, avfilter_get_by_name("buffer"), "in",
                                          source_options.c_str(), nullptr, graph.get()),
             "buffer");
  require_av(avfilter_graph_create_filter(&sink, avfilter_get_by_name("buffersink"), "out", nullptr, nullptr,
                                          graph.get()),
             "buffersink");
  AVFilterInOut* outputs = avfilter_inout_alloc();
  AVFilterInOut* inputs = avfilter_inout_alloc();
  *outputs = {.name = av_strdup("in"), .filter_ctx = source, .pad_idx = 0, .next = nullptr};
  *inputs = {.name = av_strdup("out"), .filter_ctx = sink, .pad_idx = 0, .next = nullptr};
  const std::string chain = "format=yuv444p," + filter + ",format=rgb24";
  const int parsed = avfilter_graph_parse_ptr(graph.get(), chain.c_str(), &inputs, &outputs, nullptr);
  avfilter_inout_free(&inputs);
  avfilter_inout_free(&outputs);
  require_av(parsed, filter.c_str());
  require_av(avfilter_graph_config(graph.get(), nullptr), "configuring filters");

  std::vector<Frame> result;
  const auto drain = [&] {
    while (av_buffersink_get_frame(sink, frame.get()) >= 0) {
      Frame out(height, width);
      for (int y = 0; y < height; ++y) {
        const std::uint8_t* row = frame->data[0] + static_cast<std::ptrdiff_t>(y) * frame->linesize[0];
        for (int i = 0; i < 3 * width; ++i) out.at(y, 0)[i] = static_cast<std::int16_t>(row[i] * kFrameScale);
      }
      result.push_back(std::move(out));
      av_frame_unref(frame.get());
    }
  };
  for (std::size_t t = 0; t < frames.size(); ++t) {
    frame->width = width;
    frame->height = height;
    frame->format = AV_PIX_FMT_RGB24;
    frame->pts = static_cast<std::int64_t>(t);
    frame->sample_aspect_ratio = {1, 1};
    require_av(av_frame_get_buffer(frame.get(), 0), "a frame");
    for (int y = 0; y < height; ++y) {
      std::uint8_t* row = frame->data[0] + static_cast<std::ptrdiff_t>(y) * frame->linesize[0];
      for (int i = 0; i < 3 * width; ++i)
        row[i] = static_cast<std::uint8_t>((frames[t].at(y, 0)[i] + kFrameScale / 2) / kFrameScale);
    }
    require_av(av_buffersrc_add_frame(source, frame.get()), "adding a frame");
    drain();
  }
  require_av(av_buffersrc_add_frame(source, nullptr), "ending the video");
  drain();
  if (result.size() != frames.size())
    fail_system("FFmpeg: {} gave {} frames for {}", filter, result.size(), frames.size());
  return result;
}

}  // namespace lithe::bench
