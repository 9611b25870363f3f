package pass

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"strconv"
	"strings"
	"sync"
	"time"
)

// The work. A challenge is solved by the decimal numbers, one for each of its
// parts, for which SHA-256 of "challenge.part.number" begins with so many zero
// bits. Many small parts take nearly the same time for everybody; one large one
// of the same work would keep every tenth visitor more than twice as long.
const (
	Parts         = 16
	partBits      = 12 // 2¹² attempts a part, 2¹⁶ in all: a second on a cheap phone
	ChallengeLife = 5 * time.Minute
	maxSpent      = 1 << 17 // solved challenges remembered, twice
)

const challengeSize = 4 + 8 + 4

// Challenge returns work for a visitor of a network.
func (b Book) Challenge(from Network, now time.Time) string {
	id := newID()
	body := make([]byte, 0, challengeSize)
	body = binary.BigEndian.AppendUint32(body, uint32(now.Add(ChallengeLife).Unix()))
	body = append(append(body, id[:]...), from[:]...)
	return b.seal(labelChallenge, body)
}

// PartBits is how many zero bits each part needs, for the script that does the work.
func PartBits() int { return partBits }

// Solved reports whether answer, the numbers separated by dots, is the work of
// a challenge that was given to this network and still holds. The id is the
// challenge's.
func (b Book) Solved(challenge, answer string, from Network, now time.Time) (ID, bool) {
	body, ok := b.open(labelChallenge, challenge, challengeSize)
	if !ok || !now.Before(seconds(body)) || Network(body[12:16]) != from {
		return ID{}, false
	}
	return ID(body[4:12]), worked(challenge, answer)
}

// maxAnswer bounds an answer: 16 numbers of ten digits with their dots.
const maxAnswer = Parts * 11

func worked(challenge, answer string) bool {
	if len(answer) > maxAnswer {
		return false
	}
	text := make([]byte, 0, 128)
	for part := range Parts {
		number, rest, more := strings.Cut(answer, ".")
		if more != (part < Parts-1) || !digits(number) {
			return false
		}
		answer = rest
		text = strconv.AppendInt(append(append(text[:0], challenge...), '.'), int64(part), 10)
		text = append(append(text, '.'), number...)
		sum := sha256.Sum256(text)
		if bits.LeadingZeros64(binary.BigEndian.Uint64(sum[:])) < partBits {
			return false
		}
	}
	return true
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != "" && len(s) <= 10
}

// Work does what a visitor's browser does. The benchmarks use it.
func Work(challenge string) string {
	var answer []byte
	var text []byte
	for part := range Parts {
		for n := 0; ; n++ {
			text = strconv.AppendInt(append(append(text[:0], challenge...), '.'), int64(part), 10)
			text = strconv.AppendInt(append(text, '.'), int64(n), 10)
			sum := sha256.Sum256(text)
			if bits.LeadingZeros64(binary.BigEndian.Uint64(sum[:])) >= partBits {
				if part > 0 {
					answer = append(answer, '.')
				}
				answer = strconv.AppendInt(answer, int64(n), 10)
				break
			}
		}
	}
	return string(answer)
}

// Spent remembers which challenges were solved, for as long as they hold. It
// is safe for concurrent use. Only solved ones get here, so that filling it
// costs the work; what it has forgotten gives the same pass again, no other.
type Spent struct {
	mu       sync.Mutex // covers the rest
	now, old map[ID]struct{}
	turned   time.Time
}

// Spend reports whether a challenge is spent for the first time.
func (s *Spent) Spend(id ID, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil || now.Sub(s.turned) > ChallengeLife || len(s.now) >= maxSpent {
		s.now, s.old, s.turned = map[ID]struct{}{}, s.now, now
	}
	if _, ok := s.now[id]; ok {
		return false
	}
	if _, ok := s.old[id]; ok {
		return false
	}
	s.now[id] = struct{}{}
	return true
}
