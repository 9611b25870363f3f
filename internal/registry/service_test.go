package registry_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/registry"
)

const example = "../../examples/services/land-transfer.yaml"

func exampleText(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func exampleService(t testing.TB) *registry.Service {
	t.Helper()
	services, err := registry.LoadServices([]string{example})
	if err != nil {
		t.Fatal(err)
	}
	return services[0]
}

// TestServiceProblems makes one mistake at a time in the example.
func TestServiceProblems(t *testing.T) {
	for _, row := range []struct{ name, old, new, want string }{
		{"unknown key", "summary:", "sumary:", `:15:1: sumary: unknown key "sumary" (did you mean "summary"?)`},
		{"version", "version: 1", "version: 2", "version: 2 is out of range (1 to 1)"},
		{"id", "id: land-transfer", "id: Land Transfer", `id: not a service id: "Land Transfer"`},
		{"prefix", "prefix: LT", "prefix: lt-", "prefix: not a prefix"},
		{"class", "class: sensitive", "class: secret", `unknown value "secret"`},
		{"kind", "kind: mobile", "kind: mobil", `did you mean "mobile"?`},
		{"of", "of: seller_cnic", "of: seler_cnic", `there is no "seler_cnic" (did you mean "seller_cnic"?)`},
		{"name twice", "name: buyer_name", "name: seller_name", `"seller_name" is there twice`},
		{"name", "name: mouza\n", "name: Mouza\n", `not a name: "Mouza"`},
		{"pattern", "(/[0-9]{1,4}){0,3}", "(/", "not a regular expression"},
		{"subject is public", "class: personal\n    subject: true", "class: public\n    subject: true", "a subject is a required CNIC, and not public"},
		{"no subject", "    subject: true\n", "", "no field says whom an application is about"},
		{"choices", "kind: choice\n    class: public\n    required: true\n    choices:\n      - {code: sale", "class: public\n    required: true\n    choices:\n      - {code: sale", "a choice has choices"},
		{"sensitive lookup", "class: sensitive\n", "class: sensitive\n    lookup: true\n", "sensitive answers are not searched"},
		{"apply", "apply: [citizen, officer]", "apply: [citzen]", `did you mean "citizen"?`},
		{"nobody applies", "apply: [citizen, officer]", "apply: []", "apply: the list is empty"},
		{"start", "start: submitted", "start: submited", `workflow.start: there is no "submited" (did you mean "submitted"?)`},
		{"to", "to: attested", "to: atested", `workflow.steps[2].to: there is no "atested"`},
		{"from", "from: [submitted, returned]", "from: [submitted, retuned]", `workflow.steps[0].from[1]: there is no "retuned"`},
		{"from final", "from: [submitted, verified]", "from: [submitted, rejected]", `nothing happens after the final state "rejected"`},
		{"dead end", "ur: نامنظور}, final: true}", "ur: نامنظور}}", `no step leads out of state "rejected"`},
		{"officer approves", "roles: [supervisor]\n      action: approve", "roles: [officer]\n      action: approve", "approval is a supervisor's"},
		{"without Urdu", "name: {en: Transfer of land, ur: زمین کا انتقال}", "name: {en: Transfer of land}", `name.ur: missing key "ur"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			text := strings.ReplaceAll(exampleText(t), row.old, row.new)
			if text == exampleText(t) {
				t.Fatal("the mistake is not one: the example has changed")
			}
			s, problems := registry.ParseService("f.yaml", []byte(text))
			if s != nil || !strings.Contains(problems.Error(), row.want) {
				t.Errorf("got  %v\nwant … %s …", problems, row.want)
			}
			for _, p := range problems {
				if p.Line == 0 {
					t.Errorf("no place: %v", p)
				}
			}
		})
	}
}

func TestLoadServices(t *testing.T) {
	again := filepath.Join(t.TempDir(), "again.yaml")
	if err := os.WriteFile(again, []byte(exampleText(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := registry.LoadServices([]string{example, again, "nowhere.yaml"})
	ps, ok := errors.AsType[config.Problems](err)
	if !ok || len(ps) != 3 {
		t.Fatalf("%v", err)
	}
	for _, want := range []string{`service "land-transfer" is declared in ` + example, `prefix "LT" is taken`, "nowhere.yaml: not readable"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
}

func TestStepsFrom(t *testing.T) {
	s := exampleService(t)
	for _, row := range []struct {
		state string
		role  pasban.Role
		want  string
	}{
		{"submitted", pasban.RoleOfficer, "verify return"}, {"verified", pasban.RoleOfficer, "return"},
		{"verified", pasban.RoleSupervisor, "return attest reject"}, {"attested", pasban.RoleSupervisor, ""}, {"submitted", pasban.RoleCitizen, ""},
	} {
		var got []string
		for _, st := range s.StepsFrom(row.state, row.role) {
			got = append(got, st.ID)
		}
		if strings.Join(got, " ") != row.want {
			t.Errorf("%s %s: %v", row.state, row.role, got)
		}
	}
}

func TestCheck(t *testing.T) {
	s := exampleService(t)
	got, err := s.Check(answers())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"seller_cnic": "61101-1234567-2", "seller_mobile": "+923001234567", "buyer_mobile": "+923337654321",
		"consideration_pkr": "4500000", "area_kanal": "12", "khasra": "123/4",
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %q", name, got[name], want)
		}
	}
	// A stored form is a fixed point: checking it again changes nothing.
	again, err := s.Check(got)
	if err != nil || !maps.Equal(again, got) {
		t.Errorf("again: %v %v", again, err)
	}
	_, err = s.Check(map[string]string{"seller_mobile": "98765", "agreed_on": "1.11.2026", "consideration_pkr": "-1", "x": "y"})
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("not joined: %v", err)
	}
	var where []string
	for _, e := range joined.Unwrap() {
		pe, ok := errors.AsType[*pasban.Error](e)
		if !ok || pe.Kind != pasban.Invalid {
			t.Fatalf("%v", e)
		}
		where = append(where, pe.Where)
	}
	for _, want := range []string{"seller_mobile", "agreed_on", "consideration_pkr", "x", "mouza", "buyer_cnic"} {
		if !slices.Contains(where, want) {
			t.Errorf("nothing is said about %s", want)
		}
	}
	if strings.Contains(err.Error(), "98765") {
		t.Error("an answer is in the error")
	}
}

// FuzzParseService: no file makes the reader panic, and a service that was
// accepted can be used.
func FuzzParseService(f *testing.F) {
	f.Add([]byte(exampleText(f)))
	f.Add([]byte("version: 1\nfields: [{name: a, of: b}]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, problems := registry.ParseService("f.yaml", data)
		if (s == nil) == (problems == nil) {
			t.Fatalf("neither or both: %v", problems)
		}
		if s != nil {
			_, _ = s.Check(map[string]string{"a": "b"})
			s.StepsFrom(s.Workflow.Start, pasban.RoleOfficer)
		}
	})
}

// FuzzCheck: whatever people answer, a stored form is a fixed point and within
// its bounds.
func FuzzCheck(f *testing.F) {
	for _, v := range answers() {
		f.Add(v)
	}
	f.Add("\u202e12\x00")
	f.Add("1e9")
	f.Fuzz(func(t *testing.T, value string) {
		s := exampleService(t)
		values := map[string]string{}
		for _, field := range s.Fields {
			values[field.Name] = value
		}
		out, _ := s.Check(values)
		again, _ := s.Check(out)
		if !maps.Equal(out, again) {
			t.Errorf("%q became %v", out, again)
		}
	})
}
