package ingest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"pasban/internal/durable"
)

const (
	// segmentSize is when a new file is begun; a file is removed when all of it
	// has been taken.
	segmentSize = 16 << 20
	// maxFrame is the most bytes of one frame.
	maxFrame = 32 << 20
	// frameHead is a frame's length and checksum.
	frameHead    = 4 + 4
	positionName = "position"
	// noteEvery is how often the position is written at most while everything is
	// taken at once: it is two syncs, which senders would wait for.
	noteEvery = time.Second
)

var (
	// ErrFull is the error of Append while the spool has no room.
	ErrFull  = errors.New("the spool is full")
	errFrame = errors.New("a frame of the spool is damaged")
)

// Frame is what one source sent at one time: one or several entries.
type Frame struct {
	Source   string
	Received time.Time
	Data     []byte // holds until the next frame is read
	// Offset is the frame's place in everything that was ever spooled, in bytes;
	// it grows from frame to frame, also over restarts.
	Offset uint64
	next   uint64
}

// Spool is a bounded queue on disk, of many writers and one reader; a second one
// may follow beside it (second.go). Files hold the frames behind one another; a
// file's name is the offset of its beginning.
type Spool struct {
	dir string
	max int64

	noted time.Time // when the position was written; of who calls done alone

	syncing sync.Mutex // held while a file is synced

	mu      sync.Mutex    // covers everything below
	synced  uint64        // everything before it is on stable storage
	file    *os.File      // the last segment, open for writing
	starts  []uint64      // of the segments that there are, in order
	end     uint64        // where the next frame goes
	taken   uint64        // everything before it was taken
	keeps   bool          // there is a second reader, who keeps its own position
	kept    uint64        // everything before it that reader has
	lost    int64         // bytes that were removed before that reader had them
	damaged int           // frames and files that could not be read
	wake    chan struct{} // closed and renewed when something was added
}

// OpenSpool opens or makes the spool in dir; at most limit bytes wait in it, and
// one segment more. A frame that was being written when the power went is cut
// off: nobody was told that it was taken.
func OpenSpool(dir string, limit int64) (*Spool, error) {
	if err := durable.MkdirAll(dir, durable.DirMode); err != nil {
		return nil, err
	}
	s := &Spool{dir: dir, max: limit, wake: make(chan struct{})}
	names, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		start, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(name), ".seg"), 10, 63)
		if err != nil {
			continue
		}
		s.starts = append(s.starts, start)
	}
	slices.Sort(s.starts)
	if text, err := os.ReadFile(filepath.Join(dir, positionName)); err == nil {
		s.taken, err = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 63)
		if err != nil {
			return nil, fmt.Errorf("the position in the spool %s is damaged: %w", dir, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	} else if len(s.starts) == 0 {
		s.taken = beginning(time.Now())
	}
	if len(s.starts) == 0 {
		s.end = s.taken
	} else if err := s.recover(); err != nil {
		return nil, err
	}
	if len(s.starts) > 0 {
		s.taken = max(s.taken, s.starts[0])
	}
	s.synced = s.end
	return s, s.segment()
}

// beginning is the first offset of a new spool. One that was removed and made
// again begins behind all that it ever was (at less than 1 GB/s): no event gets
// the number or the id of another.
func beginning(now time.Time) uint64 { return uint64(now.UnixMilli()) << 20 }

// recover finds the end of the last segment and cuts off what is behind it.
func (s *Spool) recover() error {
	start := s.starts[len(s.starts)-1]
	name := s.name(start)
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	s.end = start
	var frames frameReader
	for {
		fr, err := frames.read(f, s.end)
		if err != nil {
			break
		}
		s.end = fr.next
	}
	if s.end < s.taken { // the segment lost frames that were taken: go on behind them
		s.end = s.taken
		return nil
	}
	return os.Truncate(name, int64(s.end-start))
}

func (s *Spool) name(start uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%020d.seg", start))
}

// segment opens the segment that the next frame goes to. The caller holds mu,
// or is alone.
func (s *Spool) segment() error {
	if n := len(s.starts); n > 0 && s.end-s.starts[n-1] < segmentSize && s.file != nil {
		return nil
	}
	if s.file != nil {
		if err := s.file.Sync(); err != nil { // its frames count as synced with the next file's
			return err
		}
		s.file.Close()
		s.file = nil
	}
	f, err := os.OpenFile(s.name(s.end), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	s.file = f
	if !slices.Contains(s.starts, s.end) {
		s.starts = append(s.starts, s.end)
	}
	return durable.SyncDir(s.dir)
}

// Append adds what a source sent. When it returns nil the data is on stable
// storage. It returns ErrFull, and keeps nothing, if there is no room.
func (s *Spool) Append(source string, received time.Time, data []byte) error {
	head := make([]byte, frameHead, frameHead+2+len(source)+8)
	head = binary.LittleEndian.AppendUint16(head, uint16(len(source)))
	head = append(head, source...)
	head = binary.LittleEndian.AppendUint64(head, uint64(received.UnixMilli()))
	size := len(head) + len(data)
	if size > maxFrame {
		return fmt.Errorf("%d bytes at once are over the limit of %d", len(data), maxFrame)
	}
	binary.LittleEndian.PutUint32(head, uint32(size-frameHead))
	binary.LittleEndian.PutUint32(head[4:], crc32.Update(crc32.ChecksumIEEE(head[frameHead:]), crc32.IEEETable, data))
	at, err := s.write(head, data)
	if err != nil {
		return err
	}
	return s.sync(at)
}

// write appends a frame to the last segment and returns where it ends.
func (s *Spool) write(head, data []byte) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	size := int64(len(head) + len(data))
	if int64(s.end-s.taken)+size > s.max {
		return 0, ErrFull
	}
	if err := s.makeRoom(size); err != nil {
		return 0, err
	}
	if err := s.segment(); err != nil {
		return 0, err
	}
	at := int64(s.end - s.starts[len(s.starts)-1])
	for _, part := range [][]byte{head, data} {
		if _, err := s.file.WriteAt(part, at); err != nil {
			return 0, err // what was written of it is written over by the next
		}
		at += int64(len(part))
	}
	s.end += uint64(size)
	return s.end, nil
}

// sync returns when everything before at is on stable storage. Writers that
// wait at the same time share one sync.
func (s *Spool) sync(at uint64) error {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	s.mu.Lock()
	f, end, synced := s.file, s.end, s.synced
	s.mu.Unlock()
	if synced >= at {
		return nil
	}
	if err := f.Sync(); err != nil && !errors.Is(err, os.ErrClosed) { // a closed segment was synced
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.synced = end
	close(s.wake)
	s.wake = make(chan struct{})
	return nil
}

// Waiting is how many bytes have not been taken.
func (s *Spool) Waiting() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(s.end - s.taken)
}

// Damaged is how many frames could not be read since the start.
func (s *Spool) Damaged() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.damaged
}

// Each calls take with one frame after another, oldest first, and waits for
// more, until ctx is done or take fails. A frame is removed when take has
// returned nil; after a crash the last ones may come again.
func (s *Spool) Each(ctx context.Context, take func(Frame) error) error {
	return s.read(ctx, func(f Frame) error {
		if f.Data != nil {
			if err := take(f); err != nil {
				return err
			}
		}
		return s.done(f.next)
	})
}

// read is Each for those who say themselves, by done, what was taken. In the place
// of frames that cannot be read they get one without data.
func (s *Spool) read(ctx context.Context, take func(Frame) error) error {
	var f *os.File
	var start uint64
	var frames frameReader
	defer func() {
		if f != nil {
			f.Close()
		}
	}()
	s.mu.Lock()
	at := s.taken
	s.mu.Unlock()
	for {
		segment, wait := s.next(at)
		if wait != nil {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-wait:
			}
			continue
		}
		if f == nil || segment != start {
			if f != nil {
				f.Close()
			}
			var err error
			if f, err = os.Open(s.name(segment)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			start = segment
		}
		fr, err := frames.readAt(f, start, at)
		if err != nil {
			fr = Frame{Offset: at, next: s.passOver(at)}
		}
		if err := take(fr); err != nil {
			return err
		}
		at = fr.next
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// readAt reads the frame at an offset from the segment's file, nil if it is gone.
func (r *frameReader) readAt(f *os.File, start, at uint64) (Frame, error) {
	if f == nil {
		return Frame{}, errFrame
	}
	if _, err := f.Seek(int64(at-start), io.SeekStart); err != nil {
		return Frame{}, err
	}
	return r.read(f, at)
}

// next returns the segment of the frame at an offset, or what to wait for if there
// is none yet.
func (s *Spool) next(at uint64) (segment uint64, wait <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at >= s.end {
		return 0, s.wake
	}
	return s.starts[s.holds(at)], nil
}

// holds says which segment holds a place. The caller holds mu.
func (s *Spool) holds(at uint64) int {
	i, found := slices.BinarySearch(s.starts, at)
	if !found {
		i--
	}
	return max(i, 0)
}

// done notes that everything before at was taken, and removes what is not
// needed any more. The position is written for every segment, and at most once a
// second when nothing is left; in between a crash hands frames out again. It is
// called by one goroutine at a time.
func (s *Spool) done(at uint64) error {
	s.mu.Lock()
	s.taken = at
	removed, err := s.remove()
	drained := at == s.end
	s.mu.Unlock()
	if err != nil || !removed && !(drained && time.Since(s.noted) >= noteEvery) {
		return err
	}
	s.noted = time.Now()
	return durable.WriteFile(filepath.Join(s.dir, positionName), []byte(strconv.FormatUint(at, 10)+"\n"), 0o600)
}

// remove removes the segments that nobody needs any more. The caller holds mu.
func (s *Spool) remove() (removed bool, err error) {
	need := s.taken
	if s.keeps {
		need = min(need, s.kept)
	}
	for len(s.starts) > 1 && s.starts[1] <= need {
		if err := os.Remove(s.name(s.starts[0])); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return removed, err
		}
		s.starts = s.starts[1:]
		removed = true
	}
	return removed, nil
}

// passOver counts a damaged frame and returns where to go on behind it: with the
// next segment, or the end.
func (s *Spool) passOver(at uint64) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.damaged++
	for _, start := range s.starts {
		if start > at {
			return start
		}
	}
	return s.end
}

// Close closes the spool; what waits in it is there at the next start.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	return errors.Join(err, durable.WriteFile(filepath.Join(s.dir, positionName), []byte(strconv.FormatUint(s.taken, 10)+"\n"), 0o600))
}

// frameReader reads frames into the same memory again and again: a frame's data
// holds until the next is read.
type frameReader struct{ buf []byte }

// keptFrame is the largest frame whose memory is kept for the next.
const keptFrame = 1 << 20

// read reads the frame at an offset, where in stands.
func (r *frameReader) read(in io.Reader, at uint64) (Frame, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return Frame{}, err
	}
	size := binary.LittleEndian.Uint32(head[:])
	if size < 10 || size > maxFrame {
		return Frame{}, errFrame
	}
	b := slices.Grow(r.buf[:0], int(size))[:size]
	if r.buf = b; size > keptFrame {
		r.buf = nil
	}
	if _, err := io.ReadFull(in, b); err != nil {
		return Frame{}, err
	}
	n := int(binary.LittleEndian.Uint16(b))
	if crc32.ChecksumIEEE(b) != binary.LittleEndian.Uint32(head[4:]) || 2+n+8 > len(b) {
		return Frame{}, errFrame
	}
	return Frame{
		Source: string(b[2 : 2+n]), Received: time.UnixMilli(int64(binary.LittleEndian.Uint64(b[2+n:]))).UTC(),
		Data: b[2+n+8:], Offset: at, next: at + frameHead + uint64(size),
	}, nil
}
