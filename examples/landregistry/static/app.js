function openRecord(form) {
  var cnic = form.cnic.value.replace(/\s/g, "");
  window.location.href = "/records/" + encodeURIComponent(cnic);
  return false;
}
