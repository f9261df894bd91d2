"""Raw files of other platforms' forms, made here, and what a corpus of theirs must hold, read by plain Python.

Each maker writes a folder, and gives its reviews and what the places reviewed tell.
"""

import csv
import gzip
import hashlib
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from statistics import mean, median

from tests.raw_corpus import jpeg

USERS, REVIEWS = ["ann", "bob", "cat", "dan"], 6
# Of a build of so few users.
FLAGS = {"min_reviews": 5, "min_photo_reviews": 2, "max_reviews": 4, "threads": 1}
WORDS = ["good", "bad", "place", "thing", "always,", '"quoted"', "naïve", "again's", "more;", "less"]


def visits(rng, places):
    """user, place, stars, moment and text of reviews; the last of each user is too short to count."""
    for user in USERS:
        for n in range(REVIEWS):
            moment = datetime(2021, 1, 1, tzinfo=UTC) + timedelta(seconds=rng.randrange(10**8))
            text = " ".join(rng.choices(WORDS, k=2 if n == REVIEWS - 1 else 8))
            yield user, rng.choice(places), rng.randint(1, 5), moment, text.replace("more;", "more\nlines;")


def write_lines(path, records):
    content = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_table(path, rows, delimiter=","):
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def write_photos(folder, names):
    folder.mkdir()
    for n, name in enumerate(sorted(names)):
        (folder / name).write_bytes(jpeg((n % 256, 90, 200)))


def hashed(*values):
    return hashlib.md5("".join(hashlib.md5(value.encode()).hexdigest() for value in values).encode()).hexdigest()


def google(folder, rng):
    kinds = ["Restaurant", "Coffee shop", "Grocery store", "Park", "Barber shop"]
    places = [f"0x{n:x}:0xd1119cfbee0da6f3" for n in range(8)]
    metas = {
        place: {
            "gmap_id": place,
            "category": rng.sample(kinds, 3),
            "num_of_reviews": rng.randrange(500),
            "MISC": {"Service options": ["Takeout"]},
            "price": "$$",
        }
        for place in places
    }
    write_lines(folder / "meta-Vermont.json.gz", [*metas.values(), {"gmap_id": "0x99:0x1", "category": None}])
    records, reviews, photos = [], [], set()
    for n, (user, place, stars, moment, text) in enumerate(visits(rng, places)):
        names = [f"AF1Qip_{n}-{k}" for k in range(n % 4 if n % 4 < 3 else 1)]
        time = int(moment.timestamp() * 1000) + 417
        urls = [f"https://lh5.googleusercontent.com/p/{name}=w150-h150-k-no-p" for name in names]
        pics = [{"url": [url]} for url in urls] if n % 8 else [{"url": urls}] if urls else None
        record = {"user_id": user, "time": time, "rating": stars, "text": text, "pics": pics, "resp": None}
        records.append(record | {"gmap_id": place, "name": user})
        review = {"review_id": hashed(user, place, str(time)), "photos": names, "place": place}
        reviews.append(review | {"user": user, "stars": stars, "date": moment, "text": text})
        photos.update(f"{name}.jpg" for name in names)
    write_lines(folder / "review-Vermont_10.json.gz", records)
    write_photos(folder / "photos", photos)
    described = {place: {"kinds": meta["category"], "number": meta["num_of_reviews"]} for place, meta in metas.items()}
    return reviews, described


def amazon(folder, rng):
    kinds = ["Skin Care", "Hair Care", "Makeup", "Beauty & Personal Care"]
    things = [f"B00YQ6X8E{n}" for n in range(8)]
    metas = {
        thing: {
            "main_category": "All Beauty",
            "parent_asin": thing,
            "categories": ["Beauty & Personal Care", rng.choice(kinds[:3])],
            "price": None if n == 3 else round(rng.uniform(1, 90), 2),
            "details": {"UPC": "617390882781"},
            "images": [{"thumb": "https://m.media-amazon.com/images/I/x.jpg"}],
        }
        for n, thing in enumerate(things)
    }
    write_lines(folder / "meta_All_Beauty.jsonl", metas.values())
    records, reviews, photos = [], [], set()
    for n, (user, thing, stars, moment, text) in enumerate(visits(rng, things)):
        names = [f"81FN4c0VHzL{n}{k}._SL1600_" for k in range(n % 3)]
        time = int(moment.timestamp() * 1000)
        address = "https://images-na.ssl-images-amazon.com/images/I/"
        images = [
            {"large_image_url": f"{address}{name}.jpg", "small_image_url": f"{address}{name}s.jpg"} for name in names
        ]
        record = {"rating": float(stars), "title": "Nice", "text": text, "images": images, "asin": "B0"}
        records.append(record | {"parent_asin": thing, "user_id": user, "timestamp": time})
        review = {"review_id": hashed(user, thing, str(time)), "photos": names, "place": thing}
        reviews.append(review | {"user": user, "stars": stars, "date": moment, "text": text})
        photos.update(f"{name}.jpg" for name in names)
    records.append(records[0])  # a few are there twice
    write_lines(folder / "All_Beauty.jsonl", records)
    write_photos(folder / "photos", photos)
    described = {thing: {"kinds": meta["categories"], "number": meta["price"]} for thing, meta in metas.items()}
    return reviews, described


def tables(folder, rng):
    kinds = ["Italian", "Japanese", "Mexican", "Pizza, Italian"]
    places = [f"d{n}" for n in range(8)]
    metas = [
        {
            "Restaurant ID": place,
            "Name": f'{place}, "the" place\nof all',
            "Cuisine.Types": rng.choice(kinds),
            "Price Level": rng.choice(["", "1", "2", "3", "4"]) if n else "2",
            "Takes Bookings": rng.choice(["True", "False"]),
        }
        for n, place in enumerate(places)
    ]
    write_table(folder / "restaurants.csv", metas)
    photos = [
        {"File": f"p{n}.{k}.png", "Restaurant ID": place, "Title": rng.choice(["", "a table, laid"])}
        for n, place in enumerate(places[:6])
        for k in range(n % 3 + 1)
    ]
    write_table(folder / "photos.csv", photos)
    rows, reviews = [], []
    for user, place, stars, moment, text in visits(rng, places):
        date = moment.replace(hour=0, minute=0, second=0)
        row = {"Author": user, "Restaurant ID": place, "Bubbles": stars, "Date of Visit": f"{date:%Y-%m-%d}"}
        rows.append(row | {"Review": text})
        review = {"review_id": hashed(user, place, f"{date:%Y-%m-%d}"), "place": place}
        review["photos"] = [photo["File"][:-4] for photo in photos if photo["Restaurant ID"] == place]
        reviews.append(review | {"user": user, "stars": stars, "date": date, "text": text})
    write_table(folder / "reviews.csv", rows, ";")
    write_photos(folder / "images", {photo["File"] for photo in photos})
    described = {
        meta["Restaurant ID"]: {
            "kinds": meta["Cuisine.Types"].split(", "),
            "number": int(meta["Price Level"]) if meta["Price Level"] else None,
            "books": meta["Takes Bookings"] == "True",
        }
        for meta in metas
    }
    return reviews, described


PLATFORMS = {"Google Local": google, "Amazon Reviews 2023": amazon, "TripAdvisor-like tables": tables}


def expected(reviews, described, rules):
    """Each user's labels, and the reviews that a row shows, newest first."""
    counted = [review for review in {r["review_id"]: r for r in reviews}.values() if len(review["text"].split()) >= 5]
    by_user = {user: [review for review in counted if review["user"] == user] for user in USERS}
    visited = {user: [described[place] for place in {r["place"] for r in own}] for user, own in by_user.items()}
    numbers = {
        user: [place["number"] for place in own if place["number"] is not None] for user, own in visited.items()
    }
    middle = median(map(mean, numbers.values()))
    rows = {}
    for user, own in by_user.items():
        labels = {}
        for rule in rules:
            if rule.kind == "mean_rating":
                labels[rule.key] = str(int(mean(review["stars"] for review in own) + 0.5))
            elif rule.kind == "top":
                times = Counter(kind for place in visited[user] for kind in place["kinds"] if kind in rule.values)
                top = sorted(times, key=lambda kind: (-times[kind], rule.values.index(kind)))[: rule.count]
                labels[rule.key] = sorted(top, key=rule.values.index) if rule.count > 1 else top[0]
            elif rule.kind == "above_median":
                labels[rule.key] = rule.values[mean(numbers[user]) > middle]
            else:
                labels[rule.key] = str(mean(place["books"] for place in visited[user]) > 0.5)
        shown = sorted((r for r in own if r["photos"]), key=lambda r: r["review_id"])
        shown = sorted(shown, key=lambda r: r["date"], reverse=True)[: FLAGS["max_reviews"]]
        rows[user] = (
            labels,
            [
                (r["review_id"], r["place"], f"{r['date']:%Y-%m-%d %H:%M:%S}", r["stars"], r["text"], set(r["photos"]))
                for r in shown
            ],
        )
    return rows
