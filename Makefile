# Each target does all its set-up on a fresh machine with Python >= 3.11 and make, and can be run again at once.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALLED := $(VENV)/.installed
SPARK := $(VENV)/.spark
OLDEST := $(VENV)/oldest
USERS ?= 2000

.PHONY: demo app test test-slow test-versions clean

# Synthesise -> build -> train -> evaluate -> load the saved folder in a fresh process, print one user's profile.
demo: outputs/corpus/README.md
	$(VENV)/bin/accelerate launch --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
		--num_cpu_threads_per_process 2 \
		train.py recipes/quickstart.yaml --overwrite_output_dir true
	$(RUN) predict.py --model outputs/quickstart --dataset outputs/corpus --split test --show 1

# The demo's model in the browser.
app: $(INSTALLED)
	@test -f outputs/quickstart/config.json || { echo "make app shows the model of make demo: run that first"; exit 1; }
	$(RUN) app.py --model outputs/quickstart

outputs/corpus/README.md: outputs/raw/photos.json
	$(RUN) -m dataset_script.mmprofile_yelp --data_dir outputs/raw --output outputs/corpus --captions photo_captions

outputs/raw/photos.json: | $(INSTALLED)
	$(RUN) -m dataset_script.synthesize --output outputs/raw --users $(USERS)

test: $(INSTALLED)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/basedpyright
	$(RUN) -m pytest -q -m "not slow" --numprocesses 2 --dist loadfile

test-slow: $(INSTALLED) $(SPARK) test-versions
	$(RUN) -m pytest -q -m slow --numprocesses 2 --dist loadfile

# The library on the oldest transformers that requirements.txt allows; all else runs on the newest.
test-versions: $(OLDEST)
	PYTHONPATH=$(OLDEST) $(RUN) -m pytest -q -m "not slow" tests/library/test_modeling_mmprofile.py \
		tests/library/test_generation_mmprofile.py tests/library/test_auto_classes.py tests/library/test_handler.py \
		tests/library/test_text_towers.py tests/library/test_vision_towers.py tests/library/test_int8_mmprofile.py

$(OLDEST): $(INSTALLED) requirements.txt
	$(RUN) -m pip install --quiet --no-deps --target $@ \
		"transformers==$$(sed -n 's/^transformers>=\([0-9.]*\),.*/\1.0/p' requirements.txt)"
	touch $@

$(INSTALLED): requirements.txt requirements-dev.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --no-compile --requirement requirements-dev.txt
	touch $@

# Spark runs on Java; without it, its test is skipped.
$(SPARK): requirements-spark.txt | $(INSTALLED)
	if command -v java >/dev/null; then \
		$(RUN) -m pip install --quiet --requirement requirements-spark.txt && touch $@; \
	fi

clean:
	rm -rf $(VENV) outputs
