package config

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
)

// Logs says which logs of other machines are received, and how much of them may
// wait for detection.
type Logs struct {
	// Spool is how many bytes may wait on disk, under data/spool. While it is
	// full, senders are made to wait.
	Spool int64 `yaml:"spool" default:"1073741824" min:"1048576"`
	// Sources are the listeners.
	Sources []LogSource `yaml:"sources"`
}

// LogSource is one listener for logs.
type LogSource struct {
	// Name is what figures and events call it: lower-case letters, digits, - and _.
	Name string `yaml:"name" required:"true"`
	// Listen is where, and by which protocol: udp://, tcp:// and tls:// receive
	// syslog; https:// receives JSON and OpenTelemetry (HTTP and gRPC). Such as
	// tls://0.0.0.0:6514.
	Listen string `yaml:"listen" required:"true"`
	// Cert is the PEM file of the certificate chain, for tls and https.
	Cert string `yaml:"cert"`
	// Key is the PEM file of the certificate's key.
	Key string `yaml:"key"`
	// ClientCA is the PEM file of the authority that senders' certificates must be
	// from. Without it senders need none.
	ClientCA string `yaml:"client_ca"`
	// Token is what senders over https show as bearer. Secret: file:PATH and
	// ${ENV} are allowed.
	Token Secret `yaml:"token"`
	// Format is what the entries are. Without it that is found out.
	Format string `yaml:"format" enum:"json|syslog|access|auditd|lines"`
	// Logsource is what the entries are in Sigma's words. Without it that is found out.
	Logsource Logsource `yaml:"logsource"`
}

// Logsource says what events are, in Sigma's words.
type Logsource struct {
	// Product is such as linux or windows.
	Product string `yaml:"product"`
	// Category is such as webserver or process_creation.
	Category string `yaml:"category"`
	// Service is such as sshd or security.
	Service string `yaml:"service"`
}

// minSourceToken is the shortest token that is not to be guessed.
const minSourceToken = 16

func (k *checker) logs() {
	names := map[string]bool{}
	for i := range k.c.Logs.Sources {
		s := &k.c.Logs.Sources[i]
		path := fmt.Sprintf("logs.sources[%d]", i)
		if s.Name != "" && !guardName.MatchString(s.Name) {
			k.bad(path+".name", "lower-case letters, digits, - and _, at most 32", "not a name for a source: %q", s.Name)
		}
		if names[s.Name] && s.Name != "" {
			k.bad(path+".name", "", "another source has this name")
		}
		names[s.Name] = true
		for _, file := range []*string{&s.Cert, &s.Key, &s.ClientCA} {
			if *file != "" && !filepath.IsAbs(*file) {
				*file = filepath.Join(k.dir, *file)
			}
		}
		if s.Listen != "" {
			k.logSource(path, s)
		}
	}
}

func (k *checker) logSource(path string, s *LogSource) {
	u, err := url.Parse(s.Listen)
	if err != nil || !slices.Contains([]string{"udp", "tcp", "tls", "https"}, u.Scheme) || u.Port() == "" || u.Path != "" || u.User != nil {
		k.bad(path+".listen", "udp, tcp, tls or https, and an address: tls://0.0.0.0:6514", "not where logs can be received: %q", s.Listen)
		return
	}
	encrypted := u.Scheme == "tls" || u.Scheme == "https"
	if encrypted && (s.Cert == "" || s.Key == "") {
		k.bad(path, "cert and key name PEM files", "%s needs a certificate", u.Scheme)
	}
	if !encrypted && (s.Cert != "" || s.Key != "" || s.ClientCA != "") {
		k.bad(path+".listen", "tls://", "%s has no use for a certificate", u.Scheme)
	}
	switch token := s.Token.Value(); {
	case u.Scheme == "https" && token == "":
		k.bad(path, "token: file:PATH", "senders over https need a token")
	case u.Scheme == "https" && len(token) < minSourceToken:
		k.bad(path+".token", "openssl rand -hex 32 makes one", "the token is shorter than %d characters", minSourceToken)
	case u.Scheme != "https" && token != "":
		k.bad(path+".token", "client_ca asks senders for certificates", "syslog has no place for a token")
	}
}
