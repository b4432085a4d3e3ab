package origin

// Bounds of the GOP cache. 2,500 frames are SRS's gop_cache_max_frames; the bytes
// keep one odd publisher (8K video, a keyframe a minute) from taking the memory of
// all. Both must stay below those of a queue, so that a cache always fits in one.
const (
	gopMaxFrames = 2500
	gopMaxBytes  = 12 << 20
)

// gopCache keeps the frames since the last keyframe, so that a new player has a
// picture at once. Where a bound is hit it is empty until the next keyframe:
// half a GOP can't be decoded.
type gopCache struct {
	frames []*frame
	bytes  int
}

// add takes the next frame of a stream with video. Config frames are the
// stream's own to keep.
func (g *gopCache) add(f *frame) {
	switch {
	case f.key:
		g.clear()
	case len(g.frames) == 0:
		return // waits for a keyframe
	}
	if len(g.frames) >= gopMaxFrames || g.bytes+f.size() > gopMaxBytes {
		g.clear()
		return
	}
	g.frames = append(g.frames, f)
	g.bytes += f.size()
}

func (g *gopCache) clear() {
	clear(g.frames) // lets go of the payloads
	g.frames = g.frames[:0]
	g.bytes = 0
}
