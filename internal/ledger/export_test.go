package ledger

import "github.com/transparency-dev/tessera"

// WrapAdd puts wrap around the driver's Add, before Run.
func (l *Ledger) WrapAdd(wrap func(tessera.AddFn) tessera.AddFn) {
	l.appender.Add = wrap(l.appender.Add)
}
