#!/usr/bin/env python3
"""Reads a run's events/ with TensorBoard's own reader and prints one JSON object: steps and values by tag.

Needs: pip install tensorboard        Usage: read_events.py runs/NAME
"""
import json
import pathlib
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

events = EventAccumulator(str(pathlib.Path(sys.argv[1]) / "events"), size_guidance={"scalars": 0})
events.Reload()
print(json.dumps({tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}))
