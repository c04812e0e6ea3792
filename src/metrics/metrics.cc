#include "metrics/counter.h"
#include "metrics/histogram.h"
