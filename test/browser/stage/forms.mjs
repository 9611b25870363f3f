// Filling in the forms of the example service, as a synthetic citizen would.

/** application is what a citizen writes who sells to another; both are
 * personas, whose number is their CNIC. */
export function application(seller, buyer) {
  return {
    tehsil: "Lahore", mouza: "Chak 12", khasra: "77/1", area_kanal: "4",
    seller_cnic: seller.number, seller_name: seller.name_ur, seller_father: "والد (فرضی)", seller_mobile: "0399-1234567", seller_address: "مکان 1، گلی 2 (فرضی)",
    buyer_cnic: buyer.number, buyer_name: buyer.name, buyer_father: "Synthetic Father", buyer_mobile: "0399-7654321", buyer_address: "House 3, Street 4 (synthetic)",
    consideration_pkr: "600000", agreed_on: "2026-11-02",
  };
}

/** fill answers every required question of the application form. */
export async function fill(page, answers) {
  await page.check("input[name=district][value=lahore]");
  await page.check("input[name=transfer][value=sale]");
  for (const [name, value] of Object.entries(answers)) await page.fill(`[name=${name}]`, value);
}

/** step presses one of the form's buttons and waits for the next page. */
export async function press(page, selector) {
  await Promise.all([page.waitForEvent("load"), page.click(selector)]);
}
