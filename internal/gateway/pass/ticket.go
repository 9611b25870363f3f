package pass

import (
	"encoding/binary"
	"sync"
	"time"
)

// Waiting in place of work. Who waits longest follows how many ask at once.
const (
	minWait    = 5 * time.Second
	maxWait    = 20 * time.Second
	waitRate   = 20               // visitors a second who wait no longer than minWait
	ticketLife = 10 * time.Minute // in which a ticket can be used once its time has come
)

// Ticket says when its bearer has waited long enough.
type Ticket struct {
	ID    ID
	Ready time.Time // whole seconds
}

// Waits hands out tickets: each a little later than the one before while many
// ask, never more than maxWait from now. It is safe for concurrent use.
type Waits struct {
	mu   sync.Mutex
	next time.Time // when the next one would be served at waitRate
}

// Next returns a ticket.
func (w *Waits) Next(now time.Time) Ticket {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.next.Before(now) {
		w.next = now
	}
	if limit := now.Add(maxWait - minWait); w.next.Before(limit) {
		w.next = w.next.Add(time.Second / waitRate)
	}
	ready := w.next.Add(minWait + time.Second - 1).Truncate(time.Second)
	return Ticket{ID: newID(), Ready: ready}
}

const ticketSize = 4 + 8

// SealTicket writes a ticket as its cookie holds it.
func (b Book) SealTicket(t Ticket) string {
	body := binary.BigEndian.AppendUint32(make([]byte, 0, ticketSize), uint32(t.Ready.Unix()))
	return b.seal(labelTicket, append(body, t.ID[:]...))
}

// OpenTicket reads a ticket that can be used now or later.
func (b Book) OpenTicket(text string, now time.Time) (Ticket, bool) {
	body, ok := b.open(labelTicket, text, ticketSize)
	if !ok {
		return Ticket{}, false
	}
	t := Ticket{Ready: seconds(body), ID: ID(body[4:12])}
	return t, now.Before(t.Ready.Add(ticketLife))
}
