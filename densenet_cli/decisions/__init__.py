"""Whether one setting's errors are lower than another's: tests, intervals, and the seeds they need.

`comparison` decides once all runs are there, `sequential` while seeds are added, `single_runs` between
two runs, image by image. Simulated by tests/decisions/test_error_rates.py, level 0.05:

    settings without a difference: any of them called better or worse
        fixed, 1 comparison of 3 seeds      paired 4.9 to 5.2 %, unpaired 3.1 %
        fixed, 10 comparisons of 5 seeds    paired 3.4 to 4.1 %, unpaired 3.6 %
        sequential, at most 10 seeds        1 comparison 4.7 to 5.1 %, 10 comparisons 4.1 to 4.9 %
        ordinary t-tests at the same looks  16 %
    settings that differ by the margin: called equal
        fixed 5.0 %, sequential 1.9 %
    a difference of one standard deviation over seeds: found with the seeds promised for 80 %
        fixed                               unrelated pairs 18 seeds, 81 %; unpaired 17 seeds, 80 %
        sequential, pairs half related      at most 13 seeds, 9.6 on average, 85 %
"""
