CREATE TABLE IF NOT EXISTS owners (
    cnic TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    name_ur TEXT NOT NULL,
    father TEXT NOT NULL,
    father_ur TEXT NOT NULL,
    address TEXT NOT NULL,
    mobile TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS plots (
    id SERIAL_KEY,
    district TEXT NOT NULL,
    mouza TEXT NOT NULL,
    khasra TEXT NOT NULL,
    kanal INTEGER NOT NULL,
    marla INTEGER NOT NULL,
    kind TEXT NOT NULL,
    UNIQUE (district, mouza, khasra)
);
CREATE TABLE IF NOT EXISTS holdings (
    plot_id BIGINT NOT NULL REFERENCES plots (id),
    cnic TEXT NOT NULL REFERENCES owners (cnic),
    share TEXT NOT NULL,
    PRIMARY KEY (plot_id, cnic)
);
CREATE INDEX IF NOT EXISTS holdings_cnic ON holdings (cnic);
CREATE TABLE IF NOT EXISTS mutations (
    id SERIAL_KEY,
    plot_id BIGINT NOT NULL REFERENCES plots (id),
    from_cnic TEXT NOT NULL,
    to_cnic TEXT NOT NULL,
    kind TEXT NOT NULL,
    note TEXT NOT NULL,
    status TEXT NOT NULL,
    entered TEXT NOT NULL
);
