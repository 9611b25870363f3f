package landregistry

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const perPage = 20

func (a *App) show(w http.ResponseWriter, page string, data any) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = a.pages.ExecuteTemplate(w, page, data) // the visitor has gone: nobody to tell
}

// fail shows the database's own message, as applications of this age do.
func (a *App) fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	if errors.Is(err, sql.ErrNoRows) {
		status = http.StatusNotFound
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = a.pages.ExecuteTemplate(w, "error.html", err.Error())
}

func (a *App) home(w http.ResponseWriter, r *http.Request) {
	districts, err := a.districts(r.Context())
	if err != nil {
		a.fail(w, err)
		return
	}
	a.show(w, "home.html", districts)
}

func (a *App) districts(ctx context.Context) ([]string, error) {
	rows, err := a.db.QueryContext(ctx, `SELECT DISTINCT district FROM plots ORDER BY district`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var districts []string
	for rows.Next() {
		var d string
		if err := rows.Scan(&d); err != nil {
			return nil, err
		}
		districts = append(districts, d)
	}
	return districts, rows.Err()
}

// search lists plots; mouza and khasra may be left empty. Results name no
// owners: the page is meant for everyone.
func (a *App) search(w http.ResponseWriter, r *http.Request) {
	district, mouza, khasra := r.FormValue("district"), r.FormValue("mouza"), r.FormValue("khasra")
	page, _ := strconv.Atoi(r.FormValue("page"))
	page = max(page, 1)

	// HOLE 1 (on purpose): what the visitor typed becomes part of the
	// statement. khasra=' UNION SELECT cnic, name, mobile, 0, 0, address FROM
	// owners -- makes the list of plots a list of people.
	query := "SELECT district, mouza, khasra, kanal, marla, kind FROM plots WHERE lower(district) = lower('" + district + "')"
	if mouza != "" {
		query += " AND lower(mouza) = lower('" + mouza + "')"
	}
	if khasra != "" {
		query += " AND khasra = '" + khasra + "'"
	}
	query += " ORDER BY 1, 2, 3 LIMIT " + strconv.Itoa(perPage+1) + " OFFSET " + strconv.Itoa((page-1)*perPage)

	rows, err := a.db.QueryContext(r.Context(), query)
	if err != nil {
		a.fail(w, err)
		return
	}
	plots, err := scanPlots(rows)
	if err != nil {
		a.fail(w, err)
		return
	}
	next := 0
	if len(plots) > perPage {
		plots, next = plots[:perPage], page+1
	}
	a.show(w, "search.html", map[string]any{
		"District": district, "Mouza": mouza, "Khasra": khasra, "Plots": plots, "Page": page, "Next": next,
	})
}

func scanPlots(rows *sql.Rows) ([]Plot, error) {
	defer rows.Close()
	var plots []Plot
	for rows.Next() {
		var p Plot
		if err := rows.Scan(&p.District, &p.Mouza, &p.Khasra, &p.Kanal, &p.Marla, &p.Kind); err != nil {
			return nil, err
		}
		plots = append(plots, p)
	}
	return plots, rows.Err()
}

// ownerRecord is one person and what they hold: fard in the clerks' words.
type ownerRecord struct {
	Owner
	Holdings []Holding `json:"holdings"`
}

func (a *App) ownerRecord(r *http.Request) (ownerRecord, error) {
	var rec ownerRecord
	cnic := r.PathValue("cnic")
	err := a.db.QueryRowContext(r.Context(), a.q(`SELECT cnic, name, name_ur, father, father_ur, address, mobile
		FROM owners WHERE cnic = ?`), cnic).
		Scan(&rec.CNIC, &rec.Name, &rec.NameUr, &rec.Father, &rec.FatherUr, &rec.Address, &rec.Mobile)
	if err != nil {
		return rec, err
	}
	rec.Holdings, err = a.holdings(r.Context(), `h.cnic = ?`, cnic)
	return rec, err
}

func (a *App) holdings(ctx context.Context, where string, args ...any) ([]Holding, error) {
	rows, err := a.db.QueryContext(ctx, a.q(`SELECT p.district, p.mouza, p.khasra, p.kanal, p.marla, p.kind, h.cnic, h.share
		FROM holdings h JOIN plots p ON p.id = h.plot_id WHERE `+where+` ORDER BY p.district, p.mouza, p.khasra, h.cnic`), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	held := []Holding{}
	for rows.Next() {
		var h Holding
		if err := rows.Scan(&h.District, &h.Mouza, &h.Khasra, &h.Kanal, &h.Marla, &h.Kind, &h.CNIC, &h.Share); err != nil {
			return nil, err
		}
		held = append(held, h)
	}
	return held, rows.Err()
}

func (a *App) record(w http.ResponseWriter, r *http.Request) {
	rec, err := a.ownerRecord(r)
	if err != nil {
		a.fail(w, err)
		return
	}
	a.show(w, "record.html", rec)
}

func (a *App) apiRecord(w http.ResponseWriter, r *http.Request) {
	rec, err := a.ownerRecord(r)
	a.json(w, rec, err)
}

// plotRecord is one plot and the people who hold it.
type plotRecord struct {
	Plot
	Owners []plotOwner `json:"owners"`
}

type plotOwner struct {
	CNIC  string `json:"cnic"`
	Name  string `json:"name"`
	Share string `json:"share"`
}

func (a *App) plotRecord(r *http.Request) (plotRecord, error) {
	var rec plotRecord
	khasra := strings.ReplaceAll(r.PathValue("khasra"), "-", "/")
	var id int64
	err := a.db.QueryRowContext(r.Context(), a.q(`SELECT id, district, mouza, khasra, kanal, marla, kind
		FROM plots WHERE district = ? AND mouza = ? AND khasra = ?`), r.PathValue("district"), r.PathValue("mouza"), khasra).
		Scan(&id, &rec.District, &rec.Mouza, &rec.Khasra, &rec.Kanal, &rec.Marla, &rec.Kind)
	if err != nil {
		return rec, err
	}
	rows, err := a.db.QueryContext(r.Context(), a.q(`SELECT o.cnic, o.name, h.share
		FROM holdings h JOIN owners o ON o.cnic = h.cnic WHERE h.plot_id = ? ORDER BY o.cnic`), id)
	if err != nil {
		return rec, err
	}
	defer rows.Close()
	rec.Owners = []plotOwner{}
	for rows.Next() {
		var o plotOwner
		if err := rows.Scan(&o.CNIC, &o.Name, &o.Share); err != nil {
			return rec, err
		}
		rec.Owners = append(rec.Owners, o)
	}
	return rec, rows.Err()
}

func (a *App) plot(w http.ResponseWriter, r *http.Request) {
	rec, err := a.plotRecord(r)
	if err != nil {
		a.fail(w, err)
		return
	}
	a.show(w, "plot.html", rec)
}

func (a *App) apiPlot(w http.ResponseWriter, r *http.Request) {
	rec, err := a.plotRecord(r)
	a.json(w, rec, err)
}

func (a *App) json(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	switch {
	case errors.Is(err, sql.ErrNoRows):
		w.WriteHeader(http.StatusNotFound)
		v = map[string]string{"error": err.Error()}
	case err != nil:
		w.WriteHeader(http.StatusInternalServerError)
		v = map[string]string{"error": err.Error()}
	}
	_ = json.NewEncoder(w).Encode(v) // the visitor has gone: nobody to tell
}

const mutationQuery = `SELECT m.id, p.district, p.mouza, p.khasra, p.kanal, p.marla, p.kind,
	m.from_cnic, m.to_cnic, m.kind, m.note, m.status, m.entered
	FROM mutations m JOIN plots p ON p.id = m.plot_id `

func scanMutation(scan func(...any) error) (Mutation, error) {
	var m Mutation
	err := scan(&m.ID, &m.Plot.District, &m.Plot.Mouza, &m.Plot.Khasra, &m.Plot.Kanal, &m.Plot.Marla, &m.Plot.Kind,
		&m.From, &m.To, &m.Kind, &m.Note, &m.Status, &m.Entered)
	return m, err
}

func (a *App) mutations(w http.ResponseWriter, r *http.Request) {
	rows, err := a.db.QueryContext(r.Context(), mutationQuery+`ORDER BY m.id DESC LIMIT 50`)
	if err != nil {
		a.fail(w, err)
		return
	}
	defer rows.Close()
	var list []Mutation
	for rows.Next() {
		m, err := scanMutation(rows.Scan)
		if err != nil {
			a.fail(w, err)
			return
		}
		list = append(list, m)
	}
	if err := rows.Err(); err != nil {
		a.fail(w, err)
		return
	}
	a.show(w, "mutations.html", list)
}

func (a *App) mutation(w http.ResponseWriter, r *http.Request) {
	id, _ := strconv.ParseInt(r.PathValue("id"), 10, 64)
	m, err := scanMutation(a.db.QueryRowContext(r.Context(), a.q(mutationQuery+`WHERE m.id = ?`), id).Scan)
	if err != nil {
		a.fail(w, err)
		return
	}
	a.show(w, "mutation.html", m)
}

func (a *App) mutationForm(w http.ResponseWriter, r *http.Request) {
	a.show(w, "mutation_new.html", map[string]string{
		"District": r.FormValue("district"), "Mouza": r.FormValue("mouza"),
		"Khasra": r.FormValue("khasra"), "From": r.FormValue("from"),
	})
}

// enterMutation takes the form and goes to the new mutation's page.
func (a *App) enterMutation(w http.ResponseWriter, r *http.Request) {
	var id int64
	err := a.db.QueryRowContext(r.Context(), a.q(`INSERT INTO mutations (plot_id, from_cnic, to_cnic, kind, note, status, entered)
		SELECT h.plot_id, h.cnic, o.cnic, ?, ?, 'entered', ?
		FROM holdings h JOIN plots p ON p.id = h.plot_id, owners o
		WHERE p.district = ? AND p.mouza = ? AND p.khasra = ? AND h.cnic = ? AND o.cnic = ?
		RETURNING id`),
		r.PostFormValue("kind"), r.PostFormValue("note"), time.Now().Format("2006-01-02 15:04"),
		r.PostFormValue("district"), r.PostFormValue("mouza"), r.PostFormValue("khasra"),
		r.PostFormValue("from"), r.PostFormValue("to")).Scan(&id)
	if err != nil {
		a.fail(w, err)
		return
	}
	http.Redirect(w, r, "/mutations/"+strconv.FormatInt(id, 10), http.StatusSeeOther)
}

// attest hands the holding over to the new owner.
func (a *App) attest(w http.ResponseWriter, r *http.Request) {
	id, _ := strconv.ParseInt(r.PathValue("id"), 10, 64)
	tx, err := a.db.BeginTx(r.Context(), nil)
	if err != nil {
		a.fail(w, err)
		return
	}
	defer tx.Rollback()
	var plot int64
	var from, to string
	err = tx.QueryRowContext(r.Context(), a.q(`UPDATE mutations SET status = 'attested'
		WHERE id = ? AND status = 'entered' RETURNING plot_id, from_cnic, to_cnic`), id).Scan(&plot, &from, &to)
	if err == nil {
		_, err = tx.ExecContext(r.Context(), a.q(`UPDATE holdings SET cnic = ? WHERE plot_id = ? AND cnic = ?`), to, plot, from)
	}
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		a.fail(w, err)
		return
	}
	http.Redirect(w, r, "/mutations/"+strconv.FormatInt(id, 10), http.StatusSeeOther)
}
