package config

import (
	"strings"
	"testing"
)

func TestLedgerStorage(t *testing.T) {
	mysql := MySQL{User: "ledger", Password: "p@ss/word", Address: "db.example:3306", Database: "land", TLS: true}
	for value, want := range map[string]LedgerStorage{
		"posix": {Kind: "posix"},
		"mysql://ledger:p%40ss%2Fword@db.example/land":                        {Kind: "mysql", MySQL: mysql},
		"mysql://ledger@127.0.0.1:3307/land":                                  {Kind: "mysql", MySQL: MySQL{User: "ledger", Address: "127.0.0.1:3307", Database: "land"}},
		"mysql://ledger@localhost/land?tls=on":                                {Kind: "mysql", MySQL: MySQL{User: "ledger", Address: "localhost:3306", Database: "land", TLS: true}},
		"mysql://ledger@db.example/land?tls=off":                              {Kind: "mysql", MySQL: MySQL{User: "ledger", Address: "db.example:3306", Database: "land"}},
		"mysql://ledger@/land?socket=/run/mysqld/mysqld.sock":                 {Kind: "mysql", MySQL: MySQL{User: "ledger", Address: "/run/mysqld/mysqld.sock", Database: "land"}},
		"s3://land-ledger?mysql=mysql://ledger:p%40ss%2Fword@db.example/land": {Kind: "s3", MySQL: mysql, S3: S3{Bucket: "land-ledger"}},
		"s3://AK:S%2Fk@land-ledger/a/b/?region=ap-south-1&endpoint=https://s3.example:9000&mysql=mysql://ledger:p%40ss%2Fword@db.example/land?tls=on": {Kind: "s3", MySQL: mysql,
			S3: S3{Bucket: "land-ledger", Prefix: "a/b", Region: "ap-south-1", Endpoint: "https://s3.example:9000", Key: "AK", Secret: "S/k"}},
	} {
		c := Config{Ledger: Ledger{Storage: Secret(value)}}
		if got, err := c.LedgerStorage(); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", value, got, err, want)
		}
	}
	for _, value := range []string{
		"", "files", "gs://bucket", "mysql://", "mysql://hunter2@", "mysql://hunter2@db", "mysql://db/land", "mysql://:hunter2@db/land", "mysql://u:hunter2@db/la nd",
		"mysql://u:hunter2@db/land?tls=maybe", "mysql://u:hunter2@db/land?tls=on&tls=off", "mysql://u:hunter2@db/land?compress=1", "mysql://u:hunter2@db/land?socket=/s", "mysql://u:hunter2@/land?socket=s",
		"mysql://u:hunt/er2@db/land", "mysql://u:hunter2%@db/land", "mysql://u:hunter2@db/land#x",
		"s3://bucket", "s3://bucket?mysql=", "s3://bucket&mysql=mysql://u@db/land", "s3://Bucket?mysql=mysql://u:hunter2@db/land", "s3://bucket/../x?mysql=mysql://u:hunter2@db/land",
		"s3://bucket?endpoint=ftp://x&mysql=mysql://u:hunter2@db/land", "s3://k@bucket?mysql=mysql://u:hunter2@db/land", "s3://bucket?style=x&mysql=mysql://u:hunter2@db/land",
	} {
		c := Config{Ledger: Ledger{Storage: Secret(value)}}
		if got, err := c.LedgerStorage(); err == nil {
			t.Errorf("%q: %+v", value, got)
		} else if strings.Contains(err.Error(), "hunt") {
			t.Errorf("%q: the error tells the password: %v", value, err)
		}
	}
}

func FuzzLedgerStorage(f *testing.F) {
	f.Add("mysql://u:p@db/land?tls=on")
	f.Add("s3://k:s@bucket/a?region=x&endpoint=http://h&mysql=mysql://u:p@/land?socket=/s")
	f.Fuzz(func(t *testing.T, value string) {
		c := Config{Ledger: Ledger{Storage: Secret(value)}}
		s, err := c.LedgerStorage()
		if err != nil {
			return
		}
		if s.Kind != "posix" && (s.MySQL.Address == "" || !databaseForm.MatchString(s.MySQL.Database)) || s.Kind == "s3" && !bucketForm.MatchString(s.S3.Bucket) {
			t.Errorf("%q: %+v", value, s)
		}
	})
}
