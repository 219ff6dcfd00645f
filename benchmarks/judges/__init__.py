"""The exam of the judges: do their measures agree with known damage, and with people?"""
