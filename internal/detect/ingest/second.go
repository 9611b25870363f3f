package ingest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
)

// A second reader may follow the spool beside detection, with a position of its
// own that it keeps itself: the store of events. Frames stay until both have
// them. Detection goes first: if there is no room because the second reader is
// behind, it loses the oldest frames, and Lost counts them.

// Keep says that there is a second reader and how far it is; call it before
// anything is taken from the spool, and again when the reader has got on.
func (s *Spool) Keep(at uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keeps = true
	if len(s.starts) > 0 {
		at = max(at, s.starts[0])
	}
	s.kept = max(s.kept, min(at, s.end))
	_, err := s.remove()
	return err
}

// makeRoom removes the oldest segments that only the second reader still needs,
// if the spool is over its limit with size more. The caller holds mu.
func (s *Spool) makeRoom(size int64) error {
	for s.keeps && s.kept < s.taken && int64(s.end-s.kept)+size > s.max && len(s.starts) > 1 && s.starts[1] <= s.taken {
		s.lost += int64(s.starts[1] - max(s.kept, s.starts[0]))
		s.kept = s.starts[1]
		if _, err := s.remove(); err != nil {
			return err
		}
	}
	return nil
}

// Unkept is how many bytes the second reader does not have yet, and how many it
// lost since the start.
func (s *Spool) Unkept() (waiting, lost int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.keeps {
		return 0, 0
	}
	return int64(s.end - s.kept), s.lost
}

// Follow calls take with one frame after another from an offset on, and waits
// for more, until ctx is done or take fails. It removes nothing: Keep does, when
// the reader says that it has got on.
func (s *Spool) Follow(ctx context.Context, from uint64, take func(Frame) error) error {
	var frames frameReader
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.mu.Lock()
		at, end, wake := max(from, s.kept), s.synced, s.wake // what is not on disk yet may still be taken back
		s.mu.Unlock()
		if at >= end {
			select {
			case <-ctx.Done():
			case <-wake:
			}
			continue
		}
		next, err := s.followSegment(ctx, &frames, at, end, take)
		if err != nil {
			return err
		}
		from = next
	}
}

// followSegment hands out the frames from at up to end that are in one segment.
func (s *Spool) followSegment(ctx context.Context, frames *frameReader, at, end uint64, take func(Frame) error) (uint64, error) {
	s.mu.Lock()
	i := s.holds(at)
	start := s.starts[i]
	behind := end
	if i+1 < len(s.starts) {
		behind = min(end, s.starts[i+1])
	}
	s.mu.Unlock()
	if at < start { // it was removed meanwhile, and counted
		return start, nil
	}
	f, err := os.Open(s.name(start))
	if errors.Is(err, fs.ErrNotExist) {
		return behind, nil // detection's reader counts what is not there
	} else if err != nil {
		return at, err
	}
	defer f.Close()
	if _, err := f.Seek(int64(at-start), io.SeekStart); err != nil {
		return at, err
	}
	for at < behind {
		fr, err := frames.read(f, at)
		if err != nil {
			return behind, nil // likewise
		}
		if err := take(fr); err != nil {
			return at, err
		}
		at = fr.next
		if err := ctx.Err(); err != nil {
			return at, err
		}
	}
	return at, nil
}
