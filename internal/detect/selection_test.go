package detect

import "testing"

func TestSelection(t *testing.T) {
	ev := event("Image", `C:\Tools\Scan*.exe`, "SrcIP", "192.0.2.7", "EventID", 4625, "Roles", []string{"a", "b"}, "user", map[string]any{"name": "Root"})
	for _, c := range []struct {
		conditions []Condition
		holds      bool
	}{
		{nil, true},
		{[]Condition{{"Image", "", []string{`c:\tools\scan*.exe`}}}, true},
		{[]Condition{{"Image", "", []string{`C:\Tools\Scan1.exe`}}}, false},
		{[]Condition{{"Image", "startswith", []string{`C:\Other`, `C:\tools\`}}}, true},
		{[]Condition{{"Image", "endswith", []string{`*.exe`}}, {"SrcIP", "cidr", []string{"192.0.2.0/24"}}}, true},
		{[]Condition{{"Image", "contains", []string{`Scan?`}}}, false},
		{[]Condition{{"SrcIP", "cidr", []string{"198.51.100.0/24"}}}, false},
		{[]Condition{{"EventID", "", []string{"4625"}}, {"Roles", "", []string{"b"}}, {"user.name", "", []string{"root"}}}, true},
		{[]Condition{{"EventID", "", []string{"4625"}}, {"Nothing", "", []string{"b"}}}, false},
	} {
		s, err := NewSelection(c.conditions)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if s.Holds(ev) != c.holds {
				t.Errorf("%v: want %v", c.conditions, c.holds)
			}
		}
	}
	for _, c := range []Condition{{"", "", []string{"x"}}, {"F", "", nil}, {"F", "re", []string{"x"}}, {"F", "cidr", []string{"x"}}, {"F", "contains", []string{""}}} {
		if _, err := NewSelection([]Condition{c}); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
	if got := (Condition{"Image", "endswith", []string{"a", "b"}}).String(); got != `Image ends with "a" or "b"` {
		t.Errorf("in words: %s", got)
	}
}
