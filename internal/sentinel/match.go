package sentinel

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"pasban/internal/config"
)

// session is who made the changes of a transaction, as the trigger in the
// guarded database said at the time.
type session struct {
	Login  string `json:"login"` // the role that logged in
	User   string `json:"user"`  // session_user; another one after SET SESSION AUTHORIZATION
	Role   string `json:"role"`  // after SET ROLE; "none"
	App    string `json:"app"`
	Addr   string `json:"addr"` // "" for the server's own socket
	PID    int    `json:"pid"`
	Order  string `json:"order"`  // a repair of the sentinel's own
	Marker string `json:"marker"` // SHA-256 of pasban.marker in hex
}

// parseSession reads a message of the trigger; what is not one is a session
// that nobody knows.
func parseSession(text []byte) session {
	var s session
	if json.Unmarshal(text, &s) != nil {
		return session{Login: "unknown"}
	}
	return s
}

// String tells of a session in words.
func (s session) String() string {
	who := cmp.Or(s.Login, "unknown")
	if s.User != s.Login {
		who += " as " + cmp.Or(s.User, "unknown")
	}
	return fmt.Sprintf("%s from %s, pid %d, application %q", who, cmp.Or(s.Addr, "the server's own socket"), s.PID, s.App)
}

// pkt is the time of Pakistan, which has no summer time.
var pkt = time.FixedZone("PKT", 5*60*60)

// judge says why the changes of these sessions, all in one transaction, are not
// authorised at that time; "" if they are.
func judge(writers []config.Writer, sessions []session, at time.Time) string {
	if len(sessions) == 0 {
		return "no session is named: the guard's trigger was off"
	}
	for _, s := range sessions {
		why := ""
		if !slices.ContainsFunc(writers, func(w config.Writer) bool {
			reason := allows(w, s, at)
			if why = cmp.Or(why, reason); w.Role == s.Login {
				why = reason // says more than that it is another writer
			}
			return reason == ""
		}) {
			return cmp.Or(why, "nobody may write to the table")
		}
	}
	return ""
}

// allows says why a writer's rule does not let a session write; "" if it does.
func allows(w config.Writer, s session, at time.Time) string {
	switch {
	case s.Login != w.Role:
		return "role " + cmp.Or(s.Login, "unknown") + " is not among the writers"
	case s.User != s.Login:
		return "role " + s.Login + " acts as " + s.User
	}
	if w.Hours != "" {
		from, to, _ := w.Span()
		now := at.In(pkt).Hour()*60 + at.In(pkt).Minute()
		inside := now >= from && now < to
		if from > to {
			inside = now >= from || now < to
		}
		if !inside {
			return "outside of the hours " + w.Hours
		}
	}
	if len(w.From) > 0 {
		addr, err := netip.ParseAddr(s.Addr)
		local := s.Addr == "" && slices.Contains(w.From, "local")
		if !local && (err != nil || !slices.ContainsFunc(w.Networks(), func(p netip.Prefix) bool { return p.Contains(addr.Unmap()) })) {
			return "from " + cmp.Or(s.Addr, "the server's own socket") + ", where no writer is"
		}
	}
	if m := w.Marker.Value(); m != "" {
		sum := sha256.Sum256([]byte(m))
		if s.Marker != hex.EncodeToString(sum[:]) {
			return "without the session's marker"
		}
	}
	return ""
}
