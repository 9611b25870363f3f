// htmx and its extensions in one file: loaded apart and deferred, the
// extensions come too late and their guard fails open.
import "htmx.org/dist/htmx.js";
import "htmx.org/dist/ext/hx-csp.js";
import "htmx.org/dist/ext/hx-sse.js";
