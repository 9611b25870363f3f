package api

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/registry"
)

// decode reads a request's body strictly: one JSON value of the given shape,
// of bounded size, without unknown members. The error is of kind Invalid or
// Limited and never quotes the body.
func decode(w http.ResponseWriter, r *http.Request, into any) error {
	if !isJSON(r) {
		return &pasban.Error{Kind: pasban.Invalid, Where: "body", Msg: "the body is not said to be JSON", Hint: "Content-Type: application/json"}
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("more than one value")
		}
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &pasban.Error{Kind: pasban.Limited, Where: "body", Msg: "the body is too large"}
	}
	if err != nil {
		return &pasban.Error{Kind: pasban.Invalid, Where: "body", Msg: "the body is not the JSON that is wanted", Hint: "see /api/openapi.json"}
	}
	return nil
}

type choiceJSON struct {
	Code string      `json:"code"`
	Name config.Text `json:"name"`
}

type fieldJSON struct {
	Name     string         `json:"name"`
	Label    config.Text    `json:"label"`
	Hint     *config.Text   `json:"hint,omitempty"`
	Kind     string         `json:"kind"`
	Class    registry.Class `json:"class"`
	Subject  bool           `json:"subject,omitempty"`
	Of       string         `json:"of,omitempty"`
	Required bool           `json:"required,omitempty"`
	Lookup   bool           `json:"lookup,omitempty"`
	Pattern  string         `json:"pattern,omitempty"`
	Max      int            `json:"max"`
	Choices  []choiceJSON   `json:"choices,omitempty"`
}

type stateJSON struct {
	ID    string      `json:"id"`
	Name  config.Text `json:"name"`
	Final bool        `json:"final"`
}

type stepJSON struct {
	ID   string      `json:"id"`
	Name config.Text `json:"name"`
	To   string      `json:"to"`
}

type serviceJSON struct {
	ID       string        `json:"id"`
	Name     config.Text   `json:"name"`
	Summary  config.Text   `json:"summary"`
	Basis    config.Text   `json:"basis"`
	Days     int           `json:"days,omitempty"`
	Apply    []pasban.Role `json:"apply"`
	Purposes []choiceJSON  `json:"purposes"`
	Fields   []fieldJSON   `json:"fields"`
	States   []stateJSON   `json:"states"`
}

func serviceOf(s *registry.Service) serviceJSON {
	out := serviceJSON{ID: s.ID, Name: s.Name, Summary: s.Summary, Basis: s.Basis, Days: s.Days, Apply: s.Apply, Purposes: choicesOf(s.Purposes)}
	for _, f := range s.Fields {
		out.Fields = append(out.Fields, fieldJSON{Name: f.Name, Label: f.Label, Hint: f.Hint, Kind: f.Kind, Class: f.Class, Subject: f.Subject,
			Of: f.Of, Required: f.Required, Lookup: f.Lookup, Pattern: f.Pattern, Max: f.Longest(), Choices: choicesOf(f.Choices)})
	}
	for _, st := range s.Workflow.States {
		out.States = append(out.States, stateJSON{ID: st.ID, Name: st.Name, Final: st.Final})
	}
	return out
}

func choicesOf(codes []registry.Code) []choiceJSON {
	out := make([]choiceJSON, len(codes))
	for i, c := range codes {
		out[i] = choiceJSON{Code: c.Code, Name: c.Name}
	}
	return out
}

type summaryJSON struct {
	ID      string            `json:"id"`
	Service string            `json:"service"`
	State   stateJSON         `json:"state"`
	Public  map[string]string `json:"public"`
	Created string            `json:"created"` // RFC 3339 UTC
	Updated string            `json:"updated"`
	Version int               `json:"version"`
}

type listJSON struct {
	Records []summaryJSON `json:"records"`
	Next    string        `json:"next,omitempty"` // value of ?after= for the rest
}

func summaryOf(s *registry.Service, r registry.Summary) summaryJSON {
	st, ok := s.State(r.State)
	if !ok { // a state that the declaration has no more
		st = registry.State{ID: r.State, Name: config.Text{En: r.State, Ur: r.State}}
	}
	return summaryJSON{ID: r.ID, Service: r.Service, State: stateJSON{ID: st.ID, Name: st.Name, Final: st.Final}, Public: r.Public,
		Created: r.CreatedAt.Format(time.RFC3339), Updated: r.UpdatedAt.Format(time.RFC3339), Version: r.Version}
}

func summariesOf(s *registry.Service, records []registry.Summary) []summaryJSON {
	out := make([]summaryJSON, len(records))
	for i, r := range records {
		out[i] = summaryOf(s, r)
	}
	return out
}

type takenJSON struct {
	Step  string      `json:"step,omitempty"`
	State string      `json:"state"`
	Role  pasban.Role `json:"role"`
	At    string      `json:"at"` // RFC 3339 UTC
}

type recordJSON struct {
	summaryJSON
	Values  map[string]string `json:"values"`
	Closed  []string          `json:"closed"` // answers that are there and were not opened
	History []takenJSON       `json:"history"`
	Steps   []stepJSON        `json:"steps"` // that the visitor's role could take next
}

func recordOf(s *registry.Service, r registry.Record, role pasban.Role) recordJSON {
	out := recordJSON{summaryJSON: summaryOf(s, r.Summary), Values: r.Values, Closed: append([]string{}, r.Closed...),
		History: []takenJSON{}, Steps: []stepJSON{}}
	for _, t := range r.History {
		out.History = append(out.History, takenJSON{Step: t.Step, State: t.State, Role: t.Role, At: t.At.Format(time.RFC3339)})
	}
	for _, st := range s.StepsFrom(r.State, role) {
		out.Steps = append(out.Steps, stepJSON{ID: st.ID, Name: st.Name, To: st.To})
	}
	return out
}
