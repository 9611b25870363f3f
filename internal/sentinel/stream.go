package sentinel

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"pasban"
	"pasban/internal/sentinel/rowtree"
)

// Operations on rows.
const (
	opInsert   = "insert"
	opUpdate   = "update"
	opDelete   = "delete"
	opTruncate = "truncate"
	opAccept   = "accept" // two people took a row as it was found
	opRevoke   = "revoke" // an earlier change cannot be believed
)

const (
	// batchMax is the most changes under one leaf.
	batchMax = 2000
	// batchWait is how long the first change of a batch waits for more.
	batchWait = 150 * time.Millisecond
	// statusEvery is how often the server hears how far the stream is.
	statusEvery = 2 * time.Second
	// ackIdle is how often an idle stream lets the server forget its log.
	ackIdle = 10 * time.Second
)

// sighting is a change on its way into a batch.
type sighting struct {
	change
	values  []rowtree.Value
	missing []int // values that the server did not send, for they did not change
	who     string
	login   string
	order   string // a repair that the change says it belongs to
	at      time.Time
}

// stream is the state of one connection that follows a table, owned by its
// goroutine.
type stream struct {
	t    *table
	conn *pgconn.PgConn
	rel  uint32 // the table's id in the stream
	col  []int  // places of the columns, key first

	pending []sighting
	first   time.Time // when the first of them came

	xid      uint64
	tx       pglogrepl.LSN // of the transaction's commit
	at       time.Time
	ord      int64
	sessions []session
	mark     string
	inTx     bool

	from   pglogrepl.LSN // the server sends what was committed from here on
	expect pglogrepl.LSN // commit of the last recorded transaction, until the server has sent it again; 0 if it need not

	done    pglogrepl.LSN // all before is recorded
	sentAt  time.Time
	ackedAt time.Time
}

// follow reads the table's changes until ctx is done or it cannot go on.
func (t *table) follow(ctx context.Context) error {
	conn, err := t.src.replication(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := t.ready(ctx, conn); err != nil {
		return err
	}
	err = pglogrepl.StartReplication(ctx, conn, t.src.slot, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names " + quote(t.src.publish), "messages 'true'"},
	})
	if err != nil {
		return t.src.fail("the stream does not start", err)
	}
	st := &stream{t: t, conn: conn, ackedAt: time.Now()}
	if err := st.resume(ctx); err != nil {
		return err
	}
	t.mu.Lock()
	t.status.Follows, t.status.Problem, t.status.Seen = true, "", time.Now().UTC().Format(time.RFC3339)
	t.mu.Unlock()
	t.over("trouble")
	t.writeStatus(ctx)
	defer func() {
		t.mu.Lock()
		t.status.Follows = false
		t.mu.Unlock()
	}()
	return st.read(ctx)
}

// ready compares the server with what is known of it, before it is followed: is
// it the same, is its log younger than what was seen, is the slot where it was
// left. Whatever is not is an alarm, and if need be a new slot is made.
func (t *table) ready(ctx context.Context, repl *pgconn.PgConn) error {
	sys, err := pglogrepl.IdentifySystem(ctx, repl)
	if err != nil {
		return t.src.fail("the server does not say who it is", err)
	}
	conn, err := t.src.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	slot, err := t.src.slotState(ctx, conn)
	if err != nil {
		return err
	}
	t.mu.Lock()
	rec := t.rec
	t.mu.Unlock()
	why := ""
	switch {
	case sys.SystemID != rec.System:
		why = "the database is in another cluster than the baseline was taken from"
	case uint64(sys.XLogPos) < rec.Acked:
		why = fmt.Sprintf("the server's log ends at %s, but was seen up to %s: it was set back", sys.XLogPos, pglogrepl.LSN(rec.Acked))
	case !slot.Found:
		why = "the replication slot " + t.src.slot + " is gone"
	case slot.Status == "lost":
		why = "the replication slot " + t.src.slot + " was given up by the server: the guard was away for longer than max_slot_wal_keep_size allows"
	case uint64(slot.Confirmed) > rec.Acked:
		why = fmt.Sprintf("the replication slot was moved on from %s to %s by somebody else", pglogrepl.LSN(rec.Acked), slot.Confirmed)
	}
	if why == "" && sys.Timeline != rec.Timeline {
		if err := t.alarm(ctx, "table-failover", fmt.Sprint("timeline ", sys.Timeline), []string{fmt.Sprintf("the server is on timeline %d, it was on %d: a standby was promoted; the slot is there and nothing was missed", sys.Timeline, rec.Timeline)}, nil); err != nil {
			return err
		}
		t.askAudit()
	}
	if err := t.learn(ctx, conn); err != nil {
		return err
	}
	if why == "" {
		if sys.Timeline == rec.Timeline {
			return nil
		}
		return t.keepPlace(ctx, func(r *record) { r.Timeline = sys.Timeline })
	}
	lsn, err := t.src.makeSlot(ctx, conn)
	if err != nil {
		return err
	}
	return t.blinded(ctx, why, func(r *record) {
		r.System, r.Timeline, r.Acked, r.Tx, r.Ord = sys.SystemID, sys.Timeline, uint64(lsn), 0, 0
	})
}

// resume finds out whether the server has to send again what is recorded
// already. The slot is ours by now: nobody moves it on meanwhile.
func (s *stream) resume(ctx context.Context) error {
	conn, err := s.t.src.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	slot, err := s.t.src.slotState(ctx, conn)
	if err != nil {
		return err
	}
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	if s.from = slot.Confirmed; uint64(s.from) <= s.t.rec.Tx {
		s.expect = pglogrepl.LSN(s.t.rec.Tx)
	}
	return nil
}

// sameHistory is told that the server has sent all that was committed before
// at. If the last transaction that was recorded is not among it, the server's
// log is another one: an older copy of the server that went on by itself, or a
// standby that had not got everything. What it says of that time would be taken
// for recorded, so the stream begins anew, and an audit compares.
func (s *stream) sameHistory(ctx context.Context, at pglogrepl.LSN) error {
	if s.expect == 0 || at <= s.expect {
		return nil
	}
	why := fmt.Sprintf("the server's log does not hold the transaction at %s any more, which was recorded: it was set back to %s or earlier, and went on from there", s.expect, s.from)
	err := s.t.blinded(ctx, why, func(r *record) { r.Acked, r.Tx, r.Ord = uint64(s.from), 0, 0 })
	if err != nil {
		return err
	}
	return s.t.src.fail("the server's log was set back; the stream begins anew", nil)
}

// read takes messages as they come.
func (s *stream) read(ctx context.Context) error {
	for {
		if err := s.tend(ctx); err != nil {
			return err
		}
		wait := s.sentAt.Add(statusEvery)
		if len(s.pending) > 0 {
			wait = s.first.Add(batchWait)
		}
		until, cancel := context.WithDeadline(ctx, wait)
		msg, err := s.conn.ReceiveMessage(until)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case pgconn.Timeout(err):
			continue
		case err != nil:
			return s.t.src.fail("the stream broke off", err)
		}
		switch m := msg.(type) {
		case *pgproto3.CopyData:
			if err := s.take(ctx, m.Data); err != nil {
				return err
			}
		case *pgproto3.ErrorResponse:
			return s.t.src.fail("the stream broke off", pgconn.ErrorResponseToPgError(m))
		}
	}
}

// tend flushes what has waited, and tells the server how far the stream is.
func (s *stream) tend(ctx context.Context) error {
	if len(s.pending) >= batchMax || len(s.pending) > 0 && time.Since(s.first) >= batchWait {
		if err := s.flush(ctx); err != nil {
			return err
		}
	}
	if time.Since(s.sentAt) < statusEvery {
		return nil
	}
	return s.confirm(ctx, false)
}

// confirm tells the server what is recorded. What it is told is kept first:
// otherwise a slot that somebody moved on could not be told from ours.
func (s *stream) confirm(ctx context.Context, reply bool) error {
	t := s.t
	t.mu.Lock()
	acked := pglogrepl.LSN(t.rec.Acked)
	idle := len(s.pending) == 0 && !s.inTx && s.done > acked && time.Since(s.ackedAt) >= ackIdle
	t.status.Seen = time.Now().UTC().Format(time.RFC3339)
	t.mu.Unlock()
	if s.expect != 0 { // who knows whether what was acknowledged is what it has
		acked, idle = min(acked, s.from), false
	}
	if idle {
		if err := t.keepPlace(ctx, func(r *record) { r.Acked = uint64(s.done) }); err != nil {
			return err
		}
		acked, s.ackedAt = s.done, time.Now()
	}
	s.sentAt = time.Now()
	err := pglogrepl.SendStandbyStatusUpdate(ctx, s.conn, pglogrepl.StandbyStatusUpdate{WALWritePosition: acked, ReplyRequested: reply})
	if err != nil {
		return t.src.fail("the stream broke off", err)
	}
	return nil
}

// take reads one message of the replication protocol.
func (s *stream) take(ctx context.Context, data []byte) error {
	if len(data) == 0 {
		return s.t.src.fail("the stream sends nothing in a message", nil)
	}
	switch data[0] {
	case pglogrepl.PrimaryKeepaliveMessageByteID:
		k, err := pglogrepl.ParsePrimaryKeepaliveMessage(data[1:])
		if err != nil {
			return s.t.src.fail("the stream is not readable", err)
		}
		if !s.inTx {
			if err := s.sameHistory(ctx, k.ServerWALEnd); err != nil {
				return err
			}
			if len(s.pending) == 0 {
				s.done = max(s.done, k.ServerWALEnd)
			}
		}
		if k.ReplyRequested {
			return s.confirm(ctx, false)
		}
	case pglogrepl.XLogDataByteID:
		x, err := pglogrepl.ParseXLogData(data[1:])
		if err != nil {
			return s.t.src.fail("the stream is not readable", err)
		}
		m, err := parse(x.WALData)
		if err != nil {
			return s.t.src.fail("the stream is not readable", err)
		}
		return s.handle(ctx, m)
	}
	return nil
}

// parse reads a message of pgoutput. The decoder trusts lengths that it is given.
func parse(data []byte) (m pglogrepl.Message, err error) {
	defer func() {
		if p := recover(); p != nil {
			m, err = nil, fmt.Errorf("a message ends too early")
		}
	}()
	if len(data) == 0 {
		return nil, errors.New("an empty message")
	}
	return pglogrepl.Parse(data)
}

func (s *stream) handle(ctx context.Context, m pglogrepl.Message) error {
	switch m := m.(type) {
	case *pglogrepl.BeginMessage:
		if err := s.sameHistory(ctx, m.FinalLSN); err != nil {
			return err
		}
		if m.FinalLSN == s.expect {
			s.expect = 0
		}
		s.t.mu.Lock()
		s.xid = wide(m.Xid, s.t.near)
		s.t.mu.Unlock()
		s.tx, s.at, s.ord, s.sessions, s.inTx = m.FinalLSN, m.CommitTime, 0, s.sessions[:0], true
	case *pglogrepl.LogicalDecodingMessage:
		switch {
		case !m.Transactional:
		case m.Prefix == sessionPrefix:
			if one := parseSession(m.Content); !slices.Contains(s.sessions, one) && len(s.sessions) < 100 {
				s.sessions = append(s.sessions, one)
			}
		case m.Prefix == markPrefix:
			s.mark = string(m.Content)
		}
	case *pglogrepl.RelationMessage:
		return s.relation(m)
	case *pglogrepl.InsertMessage:
		return s.row(ctx, m.RelationID, opInsert, nil, m.Tuple)
	case *pglogrepl.UpdateMessage:
		return s.row(ctx, m.RelationID, opUpdate, m.OldTuple, m.NewTuple)
	case *pglogrepl.DeleteMessage:
		return s.row(ctx, m.RelationID, opDelete, m.OldTuple, nil)
	case *pglogrepl.TruncateMessage:
		if slices.Contains(m.RelationIDs, s.rel) && s.rel != 0 {
			return s.see(ctx, sighting{change: change{Change: rowtree.Change{Op: opTruncate, Key: []byte("*")}}})
		}
	case *pglogrepl.CommitMessage:
		s.inTx = false
		s.done = max(s.done, m.TransactionEndLSN)
		if s.mark != "" {
			return s.reached(ctx)
		}
	}
	return nil
}

// reached tells who waits for a mark that all before it is recorded.
func (s *stream) reached(ctx context.Context) error {
	if err := s.flush(ctx); err != nil {
		return err
	}
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	if ch, ok := s.t.marks[s.mark]; ok {
		close(ch)
		delete(s.t.marks, s.mark)
	}
	s.mark = ""
	return nil
}

// relation learns where the columns are.
func (s *stream) relation(m *pglogrepl.RelationMessage) error {
	if m.Namespace != s.t.src.schema || m.RelationName != s.t.src.table {
		return nil
	}
	s.rel, s.col = m.RelationID, nil
	for _, name := range s.t.src.names() {
		i := slices.IndexFunc(m.Columns, func(c *pglogrepl.RelationMessageColumn) bool { return c.Name == name })
		if i < 0 {
			s.rel = 0
			return &pasban.Error{Kind: pasban.Unavailable, Where: "guarded table " + s.t.g.Name, Msg: "the table has no column " + name + " any more",
				Hint: "put it back, or change the configuration and take a new baseline"}
		}
		s.col = append(s.col, i)
	}
	return nil
}

// row reads a change of a row. A change of the key is two: one row is gone,
// another is there.
func (s *stream) row(ctx context.Context, rel uint32, op string, before, after *pglogrepl.TupleData) error {
	if rel != s.rel || s.rel == 0 {
		return nil
	}
	var old, now sighting
	var err error
	if before != nil {
		if old, err = s.tuple(before, true); err != nil {
			return err
		}
	}
	if after == nil {
		old.Op = opDelete
		return s.see(ctx, old)
	}
	if now, err = s.tuple(after, false); err != nil {
		return err
	}
	now.Op = op
	if before != nil && string(old.Key) != string(now.Key) {
		gone := sighting{change: change{Change: rowtree.Change{Op: opDelete, Key: old.Key}}}
		if err := s.see(ctx, gone); err != nil {
			return err
		}
		now.Op = opInsert
	}
	return s.see(ctx, now)
}

// tuple reads the watched columns of a row, or of its key alone.
func (s *stream) tuple(d *pglogrepl.TupleData, keyOnly bool) (sighting, error) {
	var out sighting
	n := len(s.t.g.Key)
	for i, at := range s.col {
		if keyOnly && i >= n {
			break
		}
		if at >= len(d.Columns) {
			return out, s.t.src.fail("the stream is not readable", errors.New("a row has too few columns"))
		}
		switch c := d.Columns[at]; c.DataType {
		case pglogrepl.TupleDataTypeNull:
			out.values = append(out.values, nil)
		case pglogrepl.TupleDataTypeToast:
			if i < n {
				return out, s.t.src.fail("the stream is not readable", errors.New("a key was not sent"))
			}
			out.values = append(out.values, nil)
			out.missing = append(out.missing, i)
		default:
			out.values = append(out.values, c.Data)
		}
	}
	out.Key = rowtree.AppendLine(nil, out.values[:n])
	if keyOnly {
		out.values = nil
	}
	return out, nil
}

// see takes a change into the batch, judged by who made it.
func (s *stream) see(ctx context.Context, c sighting) error {
	s.ord++
	s.t.mu.Lock()
	known := uint64(s.tx) < s.t.rec.Tx || uint64(s.tx) == s.t.rec.Tx && s.ord <= s.t.rec.Ord
	s.t.mu.Unlock()
	if known { // recorded before a crash or a break
		return nil
	}
	c.LSN, c.XID, c.Ord, c.at = uint64(s.tx), s.xid, s.ord, s.at
	c.Verdict = judge(s.t.g.Writers, s.sessions, s.at)
	if len(s.sessions) > 0 {
		last := s.sessions[len(s.sessions)-1]
		c.who, c.login, c.order = last.String(), last.Login, last.Order
	}
	if c.Op == opTruncate && c.Verdict == "" {
		c.Verdict = "TRUNCATE is never authorised"
	}
	if len(s.pending) == 0 {
		s.first = time.Now()
	}
	s.pending = append(s.pending, c)
	if len(s.pending) >= batchMax {
		return s.flush(ctx)
	}
	return nil
}

// flush records the pending changes: on disk first, then as a leaf with the
// alarms about what nobody authorised, and only then the server may forget them.
func (s *stream) flush(ctx context.Context) error {
	if len(s.pending) == 0 {
		return nil
	}
	t := s.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.st == nil {
		return errors.New("the state is closed")
	}
	rec := t.rec
	last := s.pending[len(s.pending)-1]
	rec.Tx, rec.Ord = last.LSN, last.Ord
	if !s.inTx {
		rec.Acked = max(rec.Acked, uint64(s.done))
	}
	err := t.record(ctx, s.pending, rec, nil)
	if err != nil {
		return err
	}
	clear(s.pending)
	s.pending = s.pending[:0]
	if !s.inTx {
		s.ackedAt = time.Now()
	}
	return nil
}

// columnsOf names the columns that differ between two rows.
func (t *table) columnsOf(before, after []byte) []string {
	names := t.src.names()
	if before == nil || after == nil {
		return names
	}
	a, b := strings.Split(string(before), "\t"), strings.Split(string(after), "\t")
	var out []string
	for i, n := range names {
		if i >= len(a) || i >= len(b) || a[i] != b[i] {
			out = append(out, n)
		}
	}
	return out
}

func hexOf(b []byte) string { return hex.EncodeToString(b) }
