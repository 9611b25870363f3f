// Package eventstore keeps events and finds them again: every fact of the
// journal as the event that detection sees, and every received log after it
// has been read.
//
// # Main types
//
// [Store] is the contract. An [Event] goes in; a [Query] in LogsQL, bounded in
// time, gives [Row]s, counts over time ([Bucket]), the names of fields
// ([FieldCount]) and the values of one ([ValueCount]).
//
// # What it guarantees
//
//   - A store holds the events of one [Tenant] and shows no others.
//   - A query cannot write, cannot leave its tenant or its time, and is bounded
//     in rows, memory and duration. It ends when its context does.
//   - A mistake in a query is a pasban.Error of the kind Invalid that says where
//     in the query it is. Everything else that goes wrong is Unavailable, or
//     Limited if the query asks for too much.
//   - An event has an id that no other has, so that an event that was added
//     twice can be told.
//
// # What it must never do
//
// It never keeps what a citizen's key seals: events name citizens by blinded
// ids only. It never lets a sender's field pass for one of its own.
package eventstore

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// The fields that every row has, whatever its event says. A field of the event
// that has one of these names is kept under OriginalPrefix and its name.
const (
	FieldTime    = "_time"        // RFC 3339 UTC with nanoseconds
	FieldStream  = "_stream"      // the set of values below by which events are stored together
	FieldMessage = "_msg"         // the raw message; the event as JSON if it had none
	FieldID      = "event_id"     // stable, and no other event's
	FieldSeq     = "event_seq"    // the event's place among all of its tenant, decimal
	FieldSource  = "event_source" // SourceJournal, or the name of the source in the configuration

	FieldProduct  = "logsource_product" // as Sigma names logsources; missing if not known
	FieldCategory = "logsource_category"
	FieldService  = "logsource_service"
)

const (
	// SourceJournal is the source of the events that are facts of the journal.
	SourceJournal = "journal"
	// OriginalPrefix begins the name of a field whose own name is taken.
	OriginalPrefix = "original_"
	// FieldOriginalTime is what an event said of its time, where that lies
	// outside of what is kept; the row's time is then when it was received.
	FieldOriginalTime = OriginalPrefix + "time"
)

// Tenant is one agency in a store. The engine numbers tenants by two integers.
type Tenant struct{ Account, Project uint32 }

// TenantOf derives an agency's tenant from its id. It is the same on every
// node and for good: the first eight bytes of a SHA-256.
func TenantOf(agency string) Tenant {
	sum := sha256.Sum256([]byte("pasban eventstore tenant v1\x00" + agency))
	return Tenant{Account: binary.BigEndian.Uint32(sum[:]), Project: binary.BigEndian.Uint32(sum[4:])}
}

// Field is a flat field: a name of OCSF or of Sigma's taxonomy, and its value
// as text.
type Field struct{ Name, Value string }

// Event is something that happened, to be kept.
type Event struct {
	ID       string    // stable: the same event has the same id when it is added again
	Seq      uint64    // its place among all events of the tenant
	Time     time.Time // when it happened
	Received time.Time // when it came in; zero if that is the same
	Source   string    // SourceJournal, or the source in the configuration
	Product  string    // what it is in Sigma's words; "" if not known
	Category string
	Service  string
	Fields   []Field
	Message  string // the raw entry; "" if there was none
}

// Query asks for the events of a time that fit a LogsQL expression. Pipes may
// follow the filter, as far as they only reshape what the filter found.
type Query struct {
	LogsQL string    // "" and "*" mean every event
	From   time.Time // the first instant; zero for as long as events are kept
	To     time.Time // the first instant after it; zero for now and what lies ahead
}

// Row is one event that was found: its fields, ordered by name but for the
// store's own, which come first (FieldTime, FieldStream, FieldMessage, FieldID
// and the rest in the order above). What pipes made has the fields they made.
type Row []Field

// Get returns the value of a field, "" if the row has none: to the engine an
// empty field and a missing one are the same.
func (r Row) Get(name string) string {
	for _, f := range r {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// Bucket is how many events there were in the step that begins at Start.
type Bucket struct {
	Start time.Time
	Count int64
}

// FieldCount is a field and how many of the events have it.
type FieldCount struct {
	Name  string
	Count int64
}

// ValueCount is a value of a field and how many of the events have it.
type ValueCount struct {
	Value string
	Count int64
}

// Usage is what a store holds, and what became of what was added. A count that
// the engine does not tell is -1.
type Usage struct {
	Events  int64 // kept
	Bytes   int64 // on disk
	Refused int64 // since the start: older than what is kept, and received too long ago as well
	Retimed int64 // since the start: kept under the time of receipt, see FieldOriginalTime
	Cut     int64 // since the start: over the limit on one event's size, the longest values cut
}

// Store keeps the events of one tenant. Its methods may be called at the same
// time.
type Store interface {
	// Add hands events to the engine. When it returns nil the engine has taken
	// all of them, and writes them to disk within its flush interval; a crash
	// before that loses them. On error any of them may have been taken.
	Add(ctx context.Context, events []Event) error
	// Search gives each event found to each, the newest first; after limit of
	// them it ends without error. With limit 0 it gives all, however many, and
	// holds a bounded part of them at a time. Where pipes make other rows than
	// events, the order is theirs. An error of each ends it and is returned.
	Search(ctx context.Context, q Query, limit int, each func(Row) error) error
	// Histogram counts the events found by time, in steps from the first that
	// touches q.From, empty steps included. Pipes of the query do not count.
	Histogram(ctx context.Context, q Query, step time.Duration) ([]Bucket, error)
	// Fields lists the fields of the events found, the most frequent first.
	Fields(ctx context.Context, q Query) ([]FieldCount, error)
	// Values lists the most frequent values of a field, at most limit.
	Values(ctx context.Context, q Query, field string, limit int) ([]ValueCount, error)
	// Usage says what the store holds.
	Usage(ctx context.Context) (Usage, error)
	// Close ends the use of the store. What was added is on disk afterwards, if
	// the engine is Pasban's own.
	Close() error
}
