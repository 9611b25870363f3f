package config

import (
	"net/url"
	"time"
)

// Events says where events are kept for hunting, and for how long. The name of
// the store alone may stand for the whole.
type Events struct {
	// Store is embedded (the node's own engine, under data/events), a VictoriaLogs
	// server or cluster (victorialogs://host:port, victorialogs+https:// with
	// TLS, user:password@ before the host), or off. Secret: file:PATH and ${ENV}
	// are allowed.
	Store Secret `yaml:"store" default:"embedded" short:"true"`
	// Retention is how long an event is kept. A server's own -retentionPeriod
	// must not be shorter.
	Retention time.Duration `yaml:"retention" default:"2160h"`
	// MaxBytes is how much the embedded store may take on disk; if it is more,
	// the oldest days go before their time.
	MaxBytes int64 `yaml:"max_bytes" default:"53687091200" min:"1048576"`
	// Archive is the directory of Parquet files that days are written to before
	// they are deleted, or off.
	Archive string `yaml:"archive" default:"off"`
}

// The values of Events.Store and Archive that are not addresses or directories.
const (
	EventsEmbedded = "embedded"
	EventsOff      = "off"
)

func (k *checker) events() {
	e := &k.c.Events
	if e.Archive != EventsOff {
		e.Archive = k.abs(e.Archive)
	}
	if e.Retention < 24*time.Hour || e.Retention > 10*365*24*time.Hour {
		k.bad("events.retention", "24h to 87600h", "%s is out of range", e.Retention)
	}
	if s := e.Store.Value(); s != EventsEmbedded && s != EventsOff {
		u, err := url.Parse(s) // an error would quote the password
		if err != nil || u.Scheme != "victorialogs" && u.Scheme != "victorialogs+https" || u.Hostname() == "" || u.Fragment != "" {
			k.bad("events.store", "embedded, off, or victorialogs://host:port", "not an event store that this build has")
		}
	}
}
