"""What runs within the walls: a zygote, its children, and the walls themselves.

A bare interpreter imports this package as `inside`, without the rest of redpencil: its modules
import the standard library and each other only, and as little as they can.
"""
