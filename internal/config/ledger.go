package config

import (
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// LedgerStorage is where the public log is kept, taken apart. It may hold
// passwords.
type LedgerStorage struct {
	Kind  string // posix, mysql or s3
	MySQL MySQL  // of mysql, and what s3 keeps the order of leaves in
	S3    S3     // of s3
}

// MySQL is a MySQL or MariaDB database.
type MySQL struct {
	User, Password string
	Address        string // host:port, or the path of a socket
	Database       string
	TLS            bool
}

// S3 is a place in an object store that speaks S3.
type S3 struct {
	Bucket, Prefix string // Prefix has no slash at its ends; "" is the bucket itself
	Region         string // "" is what the environment says
	Endpoint       string // "" is Amazon's
	Key, Secret    string // "" is what the environment says
}

var (
	databaseForm = regexp.MustCompile(`^[A-Za-z0-9_$-]{1,64}$`)
	bucketForm   = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	prefixForm   = regexp.MustCompile(`^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$`)
	regionForm   = regexp.MustCompile(`^[a-z0-9-]{0,40}$`)
)

// The errors of ledger.storage never hold the value: it may hold a password.
var (
	errStorageKind = errors.New("posix, mysql://USER:PASSWORD@HOST/DATABASE, or s3://BUCKET/PREFIX?mysql=mysql://…")
	errMySQL       = errors.New("a database is mysql://USER:PASSWORD@HOST:PORT/DATABASE, with tls=on or tls=off, or socket=/PATH, behind a question mark; special characters of the password are written %XX")
	errS3          = errors.New("a bucket is s3://BUCKET/PREFIX?region=…&endpoint=https://…&mysql=mysql://…, with mysql= at the end, or s3://KEY:SECRET@BUCKET/…; special characters of the secret are written %XX")
)

// LedgerStorage takes ledger.storage apart.
func (c *Config) LedgerStorage() (LedgerStorage, error) {
	value := c.Ledger.Storage.Value()
	scheme, _, _ := strings.Cut(value, "://")
	switch {
	case value == "posix":
		return LedgerStorage{Kind: "posix"}, nil
	case scheme == "mysql":
		db, err := parseMySQL(value)
		return LedgerStorage{Kind: "mysql", MySQL: db}, err
	case scheme == "s3":
		// The database's address stands there as it is, with its own & and %.
		place, database, ok := strings.Cut(value, "mysql=")
		if !ok || !strings.Contains(place, "?") || !strings.HasSuffix(place, "?") && !strings.HasSuffix(place, "&") {
			return LedgerStorage{}, errS3
		}
		s3, err := parseS3(place[:len(place)-1])
		if err != nil {
			return LedgerStorage{}, err
		}
		db, err := parseMySQL(database)
		return LedgerStorage{Kind: "s3", S3: s3, MySQL: db}, err
	}
	return LedgerStorage{}, errStorageKind
}

func parseMySQL(value string) (MySQL, error) {
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "mysql" || u.User == nil || u.User.Username() == "" || u.Fragment != "" {
		return MySQL{}, errMySQL
	}
	q, ok := parameters(u, "socket", "tls")
	if !ok {
		return MySQL{}, errMySQL
	}
	db := MySQL{User: u.User.Username(), Database: strings.TrimPrefix(u.Path, "/"), Address: q.Get("socket")}
	db.Password, _ = u.User.Password()
	local := db.Address != ""
	switch {
	case local && (u.Host != "" || !filepath.IsAbs(db.Address)), !local && u.Hostname() == "", !databaseForm.MatchString(db.Database):
		return MySQL{}, errMySQL
	case !local:
		port := u.Port()
		if port == "" {
			port = "3306"
		}
		db.Address = net.JoinHostPort(u.Hostname(), port)
		local = onThisMachine(u.Hostname())
	}
	switch q.Get("tls") {
	case "":
		db.TLS = !local
	case "on":
		db.TLS = true
	case "off":
	default:
		return MySQL{}, errMySQL
	}
	return db, nil
}

func parseS3(value string) (S3, error) {
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "s3" || u.Fragment != "" || !bucketForm.MatchString(u.Host) {
		return S3{}, errS3
	}
	q, ok := parameters(u, "region", "endpoint")
	if !ok {
		return S3{}, errS3
	}
	s := S3{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/"), Region: q.Get("region"), Endpoint: q.Get("endpoint")}
	if u.User != nil {
		s.Key = u.User.Username()
		s.Secret, _ = u.User.Password()
		if s.Key == "" || s.Secret == "" {
			return S3{}, errS3
		}
	}
	if s.Prefix != "" && (!prefixForm.MatchString(s.Prefix) || strings.Contains("/"+s.Prefix+"/", "/../") || strings.Contains("/"+s.Prefix+"/", "/./")) || !regionForm.MatchString(s.Region) {
		return S3{}, errS3
	}
	if s.Endpoint != "" {
		e, err := url.Parse(s.Endpoint)
		if err != nil || e.Scheme != "https" && e.Scheme != "http" || e.Host == "" || e.User != nil || strings.Trim(e.Path, "/") != "" || e.RawQuery != "" {
			return S3{}, errS3
		}
	}
	return s, nil
}

// parameters returns what stands behind an address's question mark, if that is
// nothing but names, each at most once.
func parameters(u *url.URL, names ...string) (url.Values, bool) {
	q, err := url.ParseQuery(u.RawQuery)
	for name, values := range q {
		if !slices.Contains(names, name) || len(values) != 1 {
			return nil, false
		}
	}
	return q, err == nil
}
