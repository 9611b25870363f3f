package demo

// name is a given or family name in both scripts.
type name struct{ en, ur string }

// The lists hold common given and family names of Pakistan. They are combined
// by chance: a person of the demo is nobody in particular.

func maleNames() []name {
	return []name{
		{"Muhammad Ahmed", "محمد احمد"}, {"Ali Raza", "علی رضا"}, {"Hassan", "حسن"}, {"Hussain", "حسین"},
		{"Usman", "عثمان"}, {"Umar", "عمر"}, {"Bilal", "بلال"}, {"Hamza", "حمزہ"}, {"Imran", "عمران"},
		{"Kamran", "کامران"}, {"Faisal", "فیصل"}, {"Nadeem", "ندیم"}, {"Tariq", "طارق"}, {"Khalid", "خالد"},
		{"Shahid", "شاہد"}, {"Zahid", "زاہد"}, {"Rashid", "راشد"}, {"Asif", "آصف"}, {"Adnan", "عدنان"},
		{"Farhan", "فرحان"}, {"Salman", "سلمان"}, {"Arslan", "ارسلان"}, {"Waqas", "وقاص"}, {"Naveed", "نوید"},
		{"Junaid", "جنید"}, {"Saad", "سعد"}, {"Talha", "طلحہ"}, {"Zubair", "زبیر"}, {"Ibrahim", "ابراہیم"},
		{"Ismail", "اسماعیل"}, {"Yousaf", "یوسف"}, {"Yasir", "یاسر"}, {"Aamir", "عامر"}, {"Sajid", "ساجد"},
		{"Majid", "ماجد"}, {"Arshad", "ارشد"}, {"Aslam", "اسلم"}, {"Akram", "اکرم"}, {"Anwar", "انور"},
		{"Iqbal", "اقبال"}, {"Javed", "جاوید"}, {"Pervaiz", "پرویز"}, {"Riaz", "ریاض"}, {"Shabbir", "شبیر"},
		{"Sohail", "سہیل"}, {"Tahir", "طاہر"}, {"Zafar", "ظفر"}, {"Waseem", "وسیم"}, {"Nasir", "ناصر"}, {"Mubashir", "مبشر"},
	}
}

func femaleNames() []name {
	return []name{
		{"Ayesha", "عائشہ"}, {"Fatima", "فاطمہ"}, {"Zainab", "زینب"}, {"Maryam", "مریم"}, {"Khadija", "خدیجہ"},
		{"Amina", "آمنہ"}, {"Hafsa", "حفصہ"}, {"Sana", "ثناء"}, {"Hina", "حنا"}, {"Sadia", "سعدیہ"},
		{"Nadia", "نادیہ"}, {"Rabia", "رابعہ"}, {"Saima", "صائمہ"}, {"Shazia", "شازیہ"}, {"Nazia", "نازیہ"},
		{"Bushra", "بشریٰ"}, {"Farah", "فرح"}, {"Iqra", "اقراء"}, {"Kiran", "کرن"}, {"Mehwish", "مہوش"},
		{"Noreen", "نورین"}, {"Rukhsana", "رخسانہ"}, {"Samina", "ثمینہ"}, {"Shabana", "شبانہ"}, {"Tahira", "طاہرہ"},
		{"Uzma", "عظمیٰ"}, {"Yasmin", "یاسمین"}, {"Zara", "زارا"}, {"Anum", "انعم"}, {"Asma", "اسماء"},
		{"Bano", "بانو"}, {"Ghazala", "غزالہ"}, {"Humaira", "حمیرا"}, {"Irum", "ارم"}, {"Javeria", "جویریہ"},
		{"Lubna", "لبنیٰ"}, {"Misbah", "مصباح"}, {"Nighat", "نگہت"}, {"Parveen", "پروین"}, {"Rida", "ردا"},
		{"Sidra", "سدرہ"}, {"Sumaira", "سمیرا"}, {"Tayyaba", "طیبہ"}, {"Wajiha", "وجیہہ"}, {"Zubaida", "زبیدہ"},
	}
}

func familyNames() []name {
	return []name{
		{"Ahmad", "احمد"}, {"Khan", "خان"}, {"Malik", "ملک"}, {"Chaudhry", "چوہدری"}, {"Butt", "بٹ"},
		{"Sheikh", "شیخ"}, {"Qureshi", "قریشی"}, {"Siddiqui", "صدیقی"}, {"Hashmi", "ہاشمی"}, {"Bukhari", "بخاری"},
		{"Gilani", "گیلانی"}, {"Awan", "اعوان"}, {"Bhatti", "بھٹی"}, {"Rajput", "راجپوت"}, {"Cheema", "چیمہ"},
		{"Gondal", "گوندل"}, {"Warraich", "وڑائچ"}, {"Bajwa", "باجوہ"}, {"Sandhu", "سندھو"}, {"Mughal", "مغل"},
		{"Mirza", "مرزا"}, {"Baig", "بیگ"}, {"Abbasi", "عباسی"}, {"Satti", "ستی"}, {"Janjua", "جنجوعہ"},
		{"Kayani", "کیانی"}, {"Niazi", "نیازی"}, {"Khattak", "خٹک"}, {"Afridi", "آفریدی"}, {"Yousafzai", "یوسفزئی"},
		{"Baloch", "بلوچ"}, {"Leghari", "لغاری"}, {"Mazari", "مزاری"}, {"Soomro", "سومرو"}, {"Memon", "میمن"},
		{"Ansari", "انصاری"}, {"Farooqi", "فاروقی"}, {"Usmani", "عثمانی"}, {"Rizvi", "رضوی"}, {"Naqvi", "نقوی"},
		{"Zaidi", "زیدی"}, {"Kazmi", "کاظمی"}, {"Tarar", "تارڑ"}, {"Virk", "ورک"}, {"Dogar", "ڈوگر"},
	}
}

// district is a district with some of its mouzas (revenue estates).
type district struct {
	en, ur string
	mouzas []string
}

func districts() []district {
	return []district{
		{"Rawalpindi", "راولپنڈی", []string{"Adiala", "Dhamial", "Chakri", "Rawat"}},
		{"Lahore", "لاہور", []string{"Niaz Beg", "Kahna", "Raiwind", "Manawan"}},
		{"Multan", "ملتان", []string{"Shujabad", "Qadirpur", "Makhdum Rashid"}},
		{"Sialkot", "سیالکوٹ", []string{"Uggoki", "Kotli Loharan", "Head Marala"}},
		{"Faisalabad", "فیصل آباد", []string{"Samundri", "Jaranwala", "Tandlianwala"}},
		{"Gujrat", "گجرات", []string{"Kunjah", "Jalalpur Jattan", "Dinga"}},
	}
}
