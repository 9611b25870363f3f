package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"pasban"
	"pasban/examples/landregistry"
)

// Citizen is a synthetic citizen.
type Citizen struct {
	ID               string // agency-internal, such as citizen:syn-0007; it tells nothing
	CNIC             pasban.CNIC
	Name, NameUr     string
	Father, FatherUr string
	Address          string
	Mobile, Email    string
	District         string
	DistrictUr       string
}

// Staff is a synthetic person in office.
type Staff struct {
	ID           string // agency-internal, such as officer:syn-003
	Number       string // staff number, such as SYN-003
	Role         pasban.Role
	Name, NameUr string
}

// Population is everybody in the demo and the land that they hold.
type Population struct {
	Citizens []Citizen
	Holdings []landregistry.Holding
	Staff    []Staff
}

// How many hold which office: twenty people in all.
const (
	officers    = 15
	supervisors = 3
	analysts    = 2
)

// NewPopulation draws a population by chance; the same seed and number give
// the same people. All of it is synthetic and can be told to be so:
//
//   - CNICs are well-formed (13 digits, the last odd for men and even for
//     women) and unique, but begin with 99: the first digit of a real number
//     is a province, 1 to 8 in use, and the second its division;
//   - mobile numbers begin with 0399, e-mail addresses end in .example
//     (RFC 2606), staff numbers begin with SYN.
//
// About one in five plots has two holders, and one citizen in ten holds two.
func NewPopulation(seed uint64, citizens int) Population {
	d := dealer{rand.New(rand.NewPCG(seed, 0x7061_7362_616e)), maleNames(), femaleNames(), familyNames(), districts()} // "pasban"
	p := Population{Citizens: make([]Citizen, 0, citizens)}
	for i := range citizens {
		c, at := d.citizen(i)
		p.Citizens = append(p.Citizens, c)
		h := d.holding(i, at, c.CNIC)
		if i%5 == 4 { // shares the plot of whoever came before
			last := &p.Holdings[len(p.Holdings)-1]
			last.Share = "1/2"
			h.Plot, h.Share = last.Plot, "1/2"
		}
		p.Holdings = append(p.Holdings, h)
		if i%10 == 7 {
			p.Holdings = append(p.Holdings, d.holding(citizens+i, at, c.CNIC))
		}
	}
	for i := range officers + supervisors + analysts {
		p.Staff = append(p.Staff, d.staff(i))
	}
	return p
}

// With returns those of the staff who have the role, in order.
func (p Population) With(role pasban.Role) []Staff {
	var found []Staff
	for _, s := range p.Staff {
		if s.Role == role {
			found = append(found, s)
		}
	}
	return found
}

// Held returns the first holding of a citizen.
func (p Population) Held(c pasban.CNIC) (landregistry.Holding, bool) {
	for _, h := range p.Holdings {
		if h.CNIC == string(c) {
			return h, true
		}
	}
	return landregistry.Holding{}, false
}

// Application is what the i-th citizen writes into the form of the declared
// service land-transfer, by field: they sell their first plot to the next one.
func (p Population) Application(i int) map[string]string {
	seller, buyer := p.Citizens[i], p.Citizens[(i+1)%len(p.Citizens)]
	h, _ := p.Held(seller.CNIC)
	form := map[string]string{
		"district": strings.ToLower(seller.District), "tehsil": seller.District, "mouza": h.Mouza, "khasra": h.Khasra,
		"area_kanal": strconv.Itoa(h.Kanal), "transfer": "sale",
		"seller_cnic": string(seller.CNIC), "seller_name": seller.NameUr, "seller_father": seller.FatherUr,
		"seller_mobile": seller.Mobile, "seller_address": seller.Address,
		"buyer_cnic": string(buyer.CNIC), "buyer_name": buyer.Name, "buyer_father": buyer.Father,
		"buyer_mobile": buyer.Mobile, "buyer_address": buyer.Address,
		"consideration_pkr": strconv.Itoa(150_000 * (1 + h.Kanal)), "agreed_on": "2026-11-02",
	}
	if i%5 == 0 {
		form["seller_needs"] = "چلنے پھرنے سے معذور ہیں، براہ کرم گھر پر بیان لیں"
	}
	return form
}

// SeedLegacy puts the citizens and their land into the existing land registry.
func (p Population) SeedLegacy(ctx context.Context, app *landregistry.App) error {
	owners := make([]landregistry.Owner, len(p.Citizens))
	for i, c := range p.Citizens {
		owners[i] = landregistry.Owner{
			CNIC: string(c.CNIC), Name: c.Name, NameUr: c.NameUr, Father: c.Father, FatherUr: c.FatherUr,
			Address: c.Address, Mobile: c.Mobile,
		}
	}
	return app.Seed(ctx, owners, p.Holdings)
}

// dealer draws people by chance.
type dealer struct {
	*rand.Rand
	male, female, family []name
	districts            []district
}

func (d dealer) pick(list []name) name { return list[d.IntN(len(list))] }

// citizen draws the i-th citizen, who lives in the district returned.
func (d dealer) citizen(i int) (Citizen, district) {
	given, sex := d.pick(d.male), 1
	if d.IntN(2) == 0 {
		given, sex = d.pick(d.female), 0
	}
	father, family, at := d.pick(d.male), d.pick(d.family), d.IntN(len(d.districts))
	home := d.districts[at]
	// Numbers are apart by a step, so that one is not found from another by
	// adding one; the step has no factor in common with ten million.
	serial := (i*7919 + 1_234_567) % 10_000_000
	return Citizen{
		ID:   fmt.Sprintf("citizen:syn-%04d", i+1),
		CNIC: pasban.CNIC(fmt.Sprintf("991%02d-%07d-%d", at+1, serial, 2*d.IntN(4)+1+(1-sex))),
		Name: given.en + " " + family.en, NameUr: given.ur + " " + family.ur,
		Father: father.en + " " + family.en, FatherUr: father.ur + " " + family.ur,
		Address: fmt.Sprintf("House %d, Street %d, %s, %s", 1+d.IntN(90), 1+d.IntN(20),
			home.mouzas[d.IntN(len(home.mouzas))], home.en),
		Mobile:   fmt.Sprintf("0399-%07d", serial),
		Email:    fmt.Sprintf("citizen%04d@people.example", i),
		District: home.en, DistrictUr: home.ur,
	}, home
}

// holding draws a plot in the district; n makes its khasra the only one of its number.
func (d dealer) holding(n int, at district, owner pasban.CNIC) landregistry.Holding {
	kinds := []string{"chahi", "nehri", "barani", "ghair mumkin"}
	return landregistry.Holding{
		Plot: landregistry.Plot{
			District: at.en, Mouza: at.mouzas[d.IntN(len(at.mouzas))],
			Khasra: fmt.Sprintf("%d/%d", 100+n/4, 1+n%4),
			Kanal:  d.IntN(24), Marla: 1 + d.IntN(19), Kind: kinds[d.IntN(len(kinds))],
		},
		CNIC: string(owner), Share: "1/1",
	}
}

func (d dealer) staff(i int) Staff {
	given, family := d.pick(d.male), d.pick(d.family)
	if d.IntN(2) == 0 {
		given = d.pick(d.female)
	}
	role := pasban.RoleOfficer
	switch {
	case i >= officers+supervisors:
		role = pasban.RoleAnalyst
	case i >= officers:
		role = pasban.RoleSupervisor
	}
	return Staff{
		ID: fmt.Sprintf("%s:syn-%03d", role, i+1), Number: fmt.Sprintf("SYN-%03d", i+1), Role: role,
		Name: given.en + " " + family.en, NameUr: given.ur + " " + family.ur,
	}
}
