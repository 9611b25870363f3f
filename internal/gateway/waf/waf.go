// Package waf inspects HTTP traffic with Coraza and the OWASP Core Rule Set,
// both built into the binary.
//
// An [Engine] is one compiled rule set for one site. [Engine.Handler] wraps a
// handler: the request's line, headers and body are inspected before the
// handler sees them (phases 1 and 2), the response's headers and textual body
// before the visitor does (phases 3 and 4). What was found comes out as a
// [Report] through the [Hooks]; every rule that matched is one line of a [Log]
// in ModSecurity's error-log form, and its unique_id is the report's id, so
// that a person's incident id leads to the rules behind it.
//
// Coraza does not evaluate every rule for every request: package screen proves
// which cannot match, and stage.go leads a request through a light rule set
// first and through the whole one if that is not enough.
//
// # Guarantees
//
// The verdict is Coraza's: for the same directives and the same bytes, a
// request is blocked if and only if Coraza's own middleware blocks it; the one
// exception, which is an option, is text in Arabic script (letters.go). A
// request that could not be inspected (a rule engine that fails or panics, a
// body that is too large or breaks off) never reaches the handler. Bodies are
// held in memory only, bounded for each request and over all of them; parts
// of multipart uploads go to the private directory of the options while they
// are inspected. Event streams and upgraded connections pass unbuffered.
//
// # What this package must never do
//
// It does not write pages, journal anything or know a route. It never sets
// SecRxPreFilter: that loses detections.
package waf

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	coreruleset "github.com/corazawaf/coraza-coreruleset/v4"
	"github.com/corazawaf/coraza/v3"
	"github.com/corazawaf/coraza/v3/experimental"

	"pasban"
	"pasban/internal/config"
	"pasban/internal/gateway/waf/screen"
)

// Bounds that no option changes.
const (
	// DefaultBody is the largest request body, in bytes, unless Options says otherwise.
	DefaultBody = 10 << 20
	// answerLimit is how much of a textual response is inspected, in bytes;
	// the rest of a longer one passes (Coraza's recommended ProcessPartial).
	answerLimit = 512 << 10
	// hold is how long an unfinished textual response is kept back for inspection.
	hold = 30 * time.Second
	// freeBody is what each request may hold in memory without asking.
	freeBody = 128 << 10
	// grant is the step in which a larger body asks for memory.
	grant = 1 << 20
	// largeBody is the size from which bodies are inspected a few at a time:
	// a hostile megabyte takes the rules seconds, and whoever sends many of those
	// must not have all processors.
	largeBody = 64 << 10
	// largeWait is how long such a body waits for its turn.
	largeWait = 15 * time.Second
	// maxArguments is how many parameters of a query, a form or JSON are
	// inspected; a request with more is refused.
	maxArguments = 1000
	// allBodies is what all larger bodies together may hold, in bytes.
	allBodies = 256 << 20
)

// Options says what an Engine inspects and how strictly. The zero value blocks
// at paranoia level 1.
type Options struct {
	Detect   bool     // run every rule, block nothing
	Paranoia int      // 1 to 4; 0 means 1
	Before   []string // SecLang files read before the Core Rule Set
	After    []string // SecLang files read after it
	Body     int64    // largest request body in bytes; 0 means DefaultBody
	// Letters are the scripts, besides Latin, whose letters are compared as
	// letters: ArabicScript or nothing. Everything else is as Coraza has it.
	Letters []string
	// Exclusions are false alarms to leave alone, Watched the patterns of the
	// routes on which nothing is blocked. Which route a request takes is for
	// Hooks.Route to say.
	Exclusions []config.Exclusion
	Watched    []string
	// Markers has requests with the header X-CRS-Test leave a line in the log
	// and pass every rule: for the Core Rule Set's test tool only.
	Markers bool
	TempDir string // where upload parts lie during inspection; "" means the system's
	Log     *Log   // where matches are written; nil means nowhere
}

// Engine is a compiled rule set. It is safe for use by many requests at once.
type Engine struct {
	waf    experimental.WAFWithOptions
	screen *screen.Screen              // nil if nothing can be told of the rules
	light  experimental.WAFWithOptions // for requests that match nothing; nil if there is none
	o      Options
	body   int64
	log    *Log
	held   atomic.Int64  // bytes granted to larger bodies
	large  chan struct{} // turns of large bodies: half the processors

	blocking sync.Map // whether a rule's action blocks, by id
}

// register guards Coraza's tables of transformations, operators and body
// processors, which are one per process.
var register sync.Once

// New compiles the rules. Its error is of kind Invalid; if a file of own rules
// is at fault there is a RuleError in its chain.
func New(o Options) (*Engine, error) {
	directives, err := Directives(o)
	if err != nil {
		return nil, err
	}
	register.Do(registerOwn)
	rules, directives := letters(o, screen.Rules{FS: coreruleset.FS}), screen.Directives(screenRules)+directives
	w, err := compile(rules, directives)
	if err != nil {
		return nil, blame(o, err)
	}
	scr, err := screen.New(w, []string{routeVariable}, func(more string) (coraza.WAF, error) { return compile(rules, directives+more) })
	if err != nil {
		slog.Warn("the WAF evaluates every rule for every request: it takes ten times the processor", "why", err)
		return engineOf(o, w)
	}
	if c, ok := w.(experimental.WAFCloser); ok && scr.Whole != w {
		c.Close()
	}
	e, err := engineOf(o, scr.Whole)
	if err != nil {
		return nil, err
	}
	e.screen = scr
	if scr.Light == nil {
		slog.Warn("the WAF leads every request through all its bookkeeping: it takes twice the processor", "why", scr.Why)
	}
	if scr.Untrimmed != nil {
		slog.Info("the WAF keeps rules that never match: requests that others match take a little longer", "why", scr.Untrimmed)
	}
	e.light, _ = scr.Light.(experimental.WAFWithOptions)
	return e, nil
}

// screenRules is the id before those of the rules that ask the screen.
const screenRules = 99_999_000

// engineOf is the engine that runs a compiled rule set.
func engineOf(o Options, w coraza.WAF) (*Engine, error) {
	e := &Engine{o: o, body: cmp.Or(o.Body, DefaultBody), log: o.Log,
		large: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))}
	var ok bool
	if e.waf, ok = w.(experimental.WAFWithOptions); !ok {
		return nil, &pasban.Error{Kind: pasban.Unavailable, Msg: "this Coraza gives transactions no id of ours"}
	}
	return e, nil
}

// registerOwn makes the operators, transformations and body processor of this
// package known.
func registerOwn() {
	registerLetters()
	registerProcessor()
	screen.Register()
}

func compile(rules fs.FS, directives string) (coraza.WAF, error) {
	return coraza.NewWAF(coraza.NewWAFConfig().WithRootFS(rules).WithDirectives(directives))
}

// Close releases what the compiled rules hold. Requests that are still being
// inspected end undisturbed.
func (e *Engine) Close() error {
	var errs []error
	for _, w := range []any{e.waf, e.light} {
		if c, ok := w.(experimental.WAFCloser); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// Directives returns the SecLang text that the options stand for; Include
// lines in it refer to the file system of coreruleset.FS.
func Directives(o Options) (string, error) { return directives(o, os.ReadFile) }

// directives is Directives with another way to read files.
func directives(o Options, read func(string) ([]byte, error)) (string, error) {
	level := cmp.Or(o.Paranoia, 1)
	if level < 1 || level > 4 {
		return "", &pasban.Error{Kind: pasban.Invalid, Msg: fmt.Sprintf("paranoia level %d", level), Hint: "1, 2, 3 or 4"}
	}
	engine := "On"
	if o.Detect {
		engine = "DetectionOnly"
	}
	// Coraza refuses a body that reaches its limit; ours may reach it.
	limit := cmp.Or(o.Body, DefaultBody) + 1
	var b strings.Builder
	for _, script := range o.Letters {
		if script != ArabicScript {
			return "", &pasban.Error{Kind: pasban.Invalid, Msg: "letters of script " + script, Hint: ArabicScript + " is the only one that needs it"}
		}
		fmt.Fprintf(&b, "# letters of script %s are letters\n", script)
	}
	fmt.Fprintf(&b, `Include @coraza.conf-recommended
SecRuleEngine %s
SecRequestBodyLimit %d
SecRequestBodyInMemoryLimit %d
SecResponseBodyLimit %d
SecArgumentsLimit %d
SecAuditEngine Off
`, engine, limit, limit, answerLimit, maxArguments)
	if o.TempDir != "" {
		fmt.Fprintf(&b, "SecUploadDir %s\n", o.TempDir)
	}
	// The setup file says for phases 1 and 2 only that matches are logged.
	b.WriteString(`Include @crs-setup.conf.example
SecDefaultAction "phase:3,log,auditlog,pass"
SecDefaultAction "phase:4,log,auditlog,pass"
`)
	fmt.Fprintf(&b, `SecAction "id:900000,phase:1,pass,t:none,nolog,setvar:tx.blocking_paranoia_level=%d"`+"\n", level)
	own, err := tuning(o)
	if err != nil {
		return "", err
	}
	b.WriteString(own)
	if err := appendFiles(&b, o.Before, read); err != nil {
		return "", err
	}
	b.WriteString("Include @owasp_crs/*.conf\n")
	if err := appendFiles(&b, o.After, read); err != nil {
		return "", err
	}
	return b.String(), nil
}

func appendFiles(b *strings.Builder, files []string, read func(string) ([]byte, error)) error {
	for _, name := range files {
		text, err := read(name)
		if err != nil {
			return ruleError(name, 0, err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			if strings.HasPrefix(strings.ToLower(strings.TrimSpace(line)), "secrxprefilter") {
				return ruleError(name, i+1, errors.New("SecRxPreFilter loses detections: remove it"))
			}
			if idOfOurs.MatchString(line) {
				return ruleError(name, i+1, errors.New("ids from 8000000 to 8099999 are for exclusions: take another"))
			}
		}
		b.Write(text)
		b.WriteByte('\n')
	}
	return nil
}
