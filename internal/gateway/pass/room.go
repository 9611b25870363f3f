package pass

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"pasban"
	"pasban/internal/durable"
)

const (
	// claim is how long a called place is kept for someone who does not come.
	claim = 5 * time.Minute
	// markEvery is how finely it is remembered when a place was called.
	markEvery = 10 * time.Second
	// maxCalled is how many called places are remembered at once.
	maxCalled = 1 << 16
)

// Room is a waiting room: places are numbered in the order in which they are
// asked for, and a watermark rises over them at the admitted rate. A place at
// or below the watermark is called. It is safe for concurrent use.
type Room struct {
	mu     sync.Mutex // covers the rest
	rate   float64    // places a second
	issued uint64     // the last place that was given
	mark   float64    // places up to it are called
	at     time.Time  // when mark was computed
	marks  []uint64   // the watermark now and then, newest last, markEvery apart
	marked time.Time
	late   uint64 // places up to it were called more than claim ago
	called *simplelru.LRU[uint64, Network]
}

// burst is how many may come at once to an empty room.
func (r *Room) burst() float64 { return max(1, r.rate) }

// advance raises the watermark to now. The lock is held.
func (r *Room) advance(now time.Time) {
	before := min(uint64(r.mark), r.issued)
	if d := now.Sub(r.at).Seconds(); d > 0 {
		r.mark = min(r.mark+d*r.rate, float64(r.issued)+r.burst())
		r.at = now
	}
	if now.Sub(r.marked) > claim { // nobody has asked for so long
		r.late, r.marks, r.marked = max(r.late, before), nil, now
	}
	for now.Sub(r.marked) >= markEvery {
		r.marks = append(r.marks, min(uint64(r.mark), r.issued))
		r.marked = r.marked.Add(markEvery)
		if n := int(claim / markEvery); len(r.marks) > n {
			r.late = max(r.late, r.marks[0])
			r.marks = r.marks[1:]
		}
	}
}

// Admit has the room admit rate visitors a second from now on.
func (r *Room) Admit(rate float64, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.advance(now)
	r.rate = rate
}

// Join gives the next place.
func (r *Room) Join(now time.Time) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.advance(now)
	r.issued++
	return r.issued
}

// Turn is how a place stands.
type Turn struct {
	Called bool
	Late   bool          // called, and nobody came for longer than claim
	Ahead  uint64        // places before it that are not called yet
	Wait   time.Duration // until it is called, about
}

// Turn says how a place stands now. A place that was never given counts as late.
func (r *Room) Turn(place uint64, now time.Time) Turn {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.advance(now)
	mark := uint64(r.mark)
	switch {
	case place == 0 || place <= r.late || place > r.issued:
		return Turn{Late: true}
	case place <= mark:
		return Turn{Called: true}
	}
	wait := time.Duration((float64(place) - r.mark) / r.rate * float64(time.Second))
	return Turn{Ahead: place - mark - 1, Wait: wait}
}

// Enter reports whether the bearer of a called place may come in: the first who
// shows it, and whoever shows it again from the same network.
func (r *Room) Enter(place uint64, from Network) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if first, ok := r.called.Get(place); ok {
		return first == from
	}
	r.called.Add(place, from)
	return true
}

// Waiting is how many places are not called yet.
func (r *Room) Waiting(now time.Time) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.advance(now)
	if mark := uint64(r.mark); mark < r.issued {
		return r.issued - mark
	}
	return 0
}

// Rooms are the waiting rooms of a gateway. It is safe for concurrent use.
type Rooms struct {
	path string

	mu    sync.Mutex // covers rooms and writing
	rooms map[string]*Room
	last  map[string]roomState // as the file says
}

// roomState is a room in the file.
type roomState struct {
	Issued uint64 `json:"issued"` // the last place that was given
	Mark   uint64 `json:"mark"`   // the last that was called
	Late   uint64 `json:"late"`   // the last whose time to come is over
}

// OpenRooms reads how the rooms stood from the file at path, which need not be
// there yet.
func OpenRooms(path string) (*Rooms, error) {
	rs := &Rooms{path: path, rooms: map[string]*Room{}, last: map[string]roomState{}}
	return rs, readState(path, &rs.last)
}

// readState reads a file of this package's; one that is not there says nothing.
func readState(path string, into any) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		return &pasban.Error{Kind: pasban.Invalid, Msg: "cannot be read", Where: path, Err: err, Hint: "remove it: attack modes end, and waiting rooms begin anew"}
	}
	return nil
}

func writeState(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return durable.WriteFile(path, append(data, '\n'), 0o600)
}

// Room returns the room of that name; a new one admits rate visitors a second,
// and goes on where it was when it was last saved.
func (rs *Rooms) Room(name string, rate float64, now time.Time) *Room {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.rooms[name]
	if r == nil {
		s := rs.last[name]
		called, _ := simplelru.NewLRU[uint64, Network](maxCalled, nil)
		r = &Room{issued: max(s.Issued, s.Mark), mark: float64(s.Mark), late: s.Late, at: now, marked: now, called: called, rate: rate}
		if s.Issued == s.Mark { // nobody waited
			r.mark += max(1, rate)
		}
		rs.rooms[name] = r
	}
	return r
}

// Each calls f for every room.
func (rs *Rooms) Each(f func(name string, r *Room)) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for name, r := range rs.rooms {
		f(name, r)
	}
}

// Save writes how the rooms stand, if that has changed. Whoever was given a
// place after the last Save before a crash shares its number with one who comes
// after it: neither waits longer for that.
func (rs *Rooms) Save(now time.Time) error {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	changed := false
	for name, r := range rs.rooms {
		r.mu.Lock()
		r.advance(now)
		s := roomState{Issued: r.issued, Mark: min(uint64(r.mark), r.issued), Late: r.late}
		r.mu.Unlock()
		if rs.last[name] != s {
			rs.last[name], changed = s, true
		}
	}
	if !changed {
		return nil
	}
	err := writeState(rs.path, rs.last)
	if err != nil {
		for name := range rs.rooms { // so that the next one writes again
			delete(rs.last, name)
		}
	}
	return err
}

// Place is a position in a room, as it is carried.
type Place struct {
	ID   ID
	Room ID // of which room, by the hash of its name
	N    uint64
}

// RoomID is what places and admissions name a room by.
func RoomID(name string) ID { return ID(hash([]byte("pasban/room/v1"), []byte(name))) }

// NewPlace writes a position down.
func NewPlace(room ID, n uint64) Place { return Place{ID: newID(), Room: room, N: n} }

const placeSize = 8 + 8 + 8

// SealPlace writes a place as its cookie holds it.
func (b Book) SealPlace(p Place) string {
	body := append(append(make([]byte, 0, placeSize), p.ID[:]...), p.Room[:]...)
	return b.seal(labelPlace, binary.BigEndian.AppendUint64(body, p.N))
}

// OpenPlace reads a place in the given room.
func (b Book) OpenPlace(text string, room ID) (Place, bool) {
	body, ok := b.open(labelPlace, text, placeSize)
	if !ok || ID(body[8:16]) != room {
		return Place{}, false
	}
	return Place{ID: ID(body[:8]), Room: room, N: binary.BigEndian.Uint64(body[16:])}, true
}

// Admission lets its bearer be in a room for a while.
type Admission struct {
	ID      ID
	Room    ID
	Home    Network
	Expires time.Time
}

const admissionSize = 8 + 8 + 4 + 4

// SealAdmission writes an admission as its cookie holds it.
func (b Book) SealAdmission(a Admission) string {
	body := append(append(make([]byte, 0, admissionSize), a.ID[:]...), a.Room[:]...)
	body = binary.BigEndian.AppendUint32(append(body, a.Home[:]...), uint32(a.Expires.Unix()))
	return b.seal(labelAdmission, body)
}

// OpenAdmission reads an admission to the given room that holds now.
func (b Book) OpenAdmission(text string, room ID, now time.Time) (Admission, bool) {
	body, ok := b.open(labelAdmission, text, admissionSize)
	if !ok || ID(body[8:16]) != room {
		return Admission{}, false
	}
	a := Admission{ID: ID(body[:8]), Room: room, Home: Network(body[16:20]), Expires: seconds(body[20:])}
	return a, now.Before(a.Expires)
}
