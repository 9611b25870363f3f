package config_test

import (
	"strings"
	"testing"
	"time"
)

const guarded = `agency: {id: land-records, name: {en: Board, ur: بورڈ}}
guard:
  - name: owners
    database: postgres://watcher@db/land
    table: public.parcel_owner
    key: [parcel_id]
    columns: [owner_cnic, share]
`

func TestGuard(t *testing.T) {
	c, problems := read(t, guarded+`    writers: [{role: land_app, hours: "22:00-06:30", from: [local, 10.0.0.0/24, "2001:db8::1"], marker: 01234567890123456789}]
`)
	if problems != nil {
		t.Fatal(problems)
	}
	g := c.Guard[0]
	from, to, ok := g.Writers[0].Span()
	if g.Audit != time.Hour || !ok || from != 22*60 || to != 6*60+30 || len(g.Writers[0].Networks()) != 2 {
		t.Errorf("%+v: hours %d to %d", g, from, to)
	}
	if s := g.Database.String() + g.Writers[0].Marker.String(); strings.Contains(s, "watcher") || strings.Contains(s, "0123") {
		t.Errorf("a secret prints as %s", s)
	}
}

func TestGuardProblems(t *testing.T) {
	for text, want := range map[string]string{
		strings.Replace(guarded, "name: owners", "name: Owners!", 1):         `guard[0].name: not a name for a table: "Owners!"`,
		strings.Replace(guarded, "postgres://", "mysql://", 1):               `guard[0].database: not the address of a PostgreSQL database`,
		strings.Replace(guarded, "public.parcel_owner", "parcel_owner", 1):   `guard[0].table: not schema.table: "parcel_owner"`,
		strings.Replace(guarded, "key: [parcel_id]", "key: []", 1):           `guard[0].key: want at least one column`,
		strings.Replace(guarded, "owner_cnic, share", "parcel_id, share", 1): `column "parcel_id" is listed twice`,
		guarded + "    audit: 1s\n":                                          `guard[0].audit: 1s is out of range`,
		guarded + "    writers: [{role: a, hours: noon}]\n":                  `guard[0].writers[0].hours: not a span of the day: "noon"`,
		guarded + "    writers: [{role: a, from: [here]}]\n":                 `guard[0].writers[0].from[0]: not an address or CIDR: "here"`,
		guarded + "    writers: [{role: a, marker: short}]\n":                `guard[0].writers[0].marker: a marker has at least 20 characters`,
		guarded + strings.Split(guarded, "guard:\n")[1]:                      `guard[1].name: another table has this name`,
		guarded + "    writer: [{role: a}]\n":                                `unknown key "writer"`,
	} {
		_, problems := read(t, text)
		if problems == nil || !strings.Contains(problems.Error(), want) {
			t.Errorf("problems:\n%v\nwant %s", problems, want)
		}
	}
}
